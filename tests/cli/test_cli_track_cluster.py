"""``brats-seg track --cluster`` on a local Dask cluster, one of whose workers is killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from cli_studies import change, write_case

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

TABLES = ("responses.csv", "lesions.csv", "volumes.csv", "change.csv", "growth.json")


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    root = tmp_path / "cohort"
    for name in ("A", "B"):
        for number, visit in enumerate(("visit1", "visit2")):
            for scan in write_case(root / name / visit).iterdir():
                change(scan, lambda data, share=1 + number / 100: (share * data).astype("float32"))
    return root


def test_a_killed_worker_changes_nothing(cli, patients: Path, model: Path, tmp_path: Path) -> None:
    rest = ("--model", model, "--no-report")
    plain, clustered = tmp_path / "plain", tmp_path / "clustered"
    assert cli("track", patients, "-o", plain, *rest).code == 0
    killed: list[int] = []
    before: dict[Path, int] = {}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def kill_one() -> None:
            while not list(clustered.glob("segmentations/[!.]*/run.json")):
                time.sleep(0.05)
            before.update({path: path.stat().st_mtime_ns for path in clustered.glob("segmentations/[!.]*/run.json")})
            worker = next(iter(cluster.workers.values()))
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill_one, daemon=True)
        thread.start()
        done = cli("track", patients, "-o", clustered, *rest, "--cluster", cluster.scheduler_address)
        thread.join(timeout=30)
    assert done.code == 0 and len(killed) == 1, done.err
    for patient in ("A", "B"):
        for name in TABLES:
            assert (plain / patient / name).read_text() == (clustered / patient / name).read_text()
    assert len(list(clustered.glob("segmentations/[!.]*/run.json"))) == 4
    assert before and all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())  # not done twice


def test_a_scheduler_that_goes_away_is_said_and_what_is_finished_stays(
    cli, patients: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rest = ("-o", out, "--model", model, "--no-report")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def close() -> None:
            while not list(out.glob("segmentations/[!.]*/run.json")):
                time.sleep(0.05)
            cluster.close()

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        done = cli("track", patients, *rest, "--cluster", cluster.scheduler_address)
        thread.join(timeout=30)
    assert done.code == 5 and "the cluster is gone" in done.err and "--resume" in done.err
    assert done.err.count("\n") == 1
    again = cli("track", patients, *rest, "--resume")
    assert again.code == 0 and again.out.count("2 visits") == 2


def test_a_cluster_that_is_not_there_is_one_line(cli, patients: Path, model: Path, tmp_path: Path) -> None:
    done = cli("track", patients, "-o", tmp_path / "out", "--model", model, "--cluster", "nonsense://nowhere:1")
    assert done.code == 3 and "cannot be reached" in done.err and done.err.count("\n") == 1
