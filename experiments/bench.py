"""Speed, memory and accuracy on real studies, side by side in one run.

    python experiments/bench.py STUDIES -o OUT [--only segment,batch,network,start,accuracy,train] [--studies 3]

Prints a table and writes OUT/bench.json. STUDIES is a folder of labelled studies (three of them in the figures of the
README); accuracy is only measured on studies that the model was not trained on. Times are medians; processes are
started fresh, as a user starts them. MONAI's SegResNet, as its BraTS bundle configures it, runs in the same process
and on the same threads as the network it is compared with. ``--only train --device cuda`` measures a step of training
in both precisions and the making of a phantom of 128 voxels cubed; studies are not needed for that.

    python experiments/bench.py STUDIES -o OUT --against CHECKOUT

compares CPU seconds (user and system) and wall seconds with another checkout of the project, run in turn with this one
by the same Python: one study with everything written, refusals, all studies in one call (two processes here), imports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "brats_seg"]


def timed(arguments: Sequence[str], *, times: int = 1) -> float:
    """Median wall seconds of a command."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr}")
    return statistics.median(seconds)


def peak_mib(folder: Path) -> float:
    """Largest peak memory that the runs in a folder recorded of their processes."""
    return max(json.loads(path.read_text())["peak_memory_mib"] for path in folder.glob("*/run.json"))


def bench_segment(studies: list[Path], out: Path) -> dict[str, Any]:
    """One process a study, everything written, by the default engine and by each one."""
    result: dict[str, Any] = {"n": len(studies)}
    for engine in ("auto", "torch", "openvino"):
        place = out / engine
        wall = [timed(["segment", str(s), "-o", str(place), "--overwrite", "-q", "--engine", engine]) for s in studies]
        result[f"{engine}_wall_s"] = statistics.median(wall)
        result[f"{engine}_peak_mib"] = peak_mib(place)
    return result


def bench_batch(studies: list[Path], out: Path) -> dict[str, Any]:
    """All studies in one process."""
    wall = timed(["segment", *map(str, studies), "-o", str(out / "batch"), "--overwrite", "-q"])
    return {"wall_s_per_study": wall / len(studies), "peak_mib": peak_mib(out / "batch"), "n": len(studies)}


def bench_start() -> dict[str, Any]:
    """Commands that compute nothing."""
    return {name: timed(name.split(), times=5) for name in ("--help", "models", "check --help")}


def bench_network(studies: list[Path]) -> dict[str, Any]:
    """Network forward over a whole brain, against SegResNet over the bundle's window."""
    import numpy as np
    import torch
    from monai.networks.nets import SegResNet

    from brats_seg.files.find import find_study
    from brats_seg.files.load import load_study
    from brats_seg.models.card import find_model
    from brats_seg.run.segment import prepare_config
    from brats_seg.segment.predict import Predictor
    from brats_seg.segment.prepare import prepare

    bundle = find_model()
    prepared = [prepare(load_study(find_study(s)), config=prepare_config(bundle.card.prepare)) for s in studies]
    result: dict[str, Any] = {}
    for engine in ("openvino", "torch"):
        predictor = Predictor(bundle, engine=engine, device="cpu")
        predictor.predict(prepared[0])
        seconds = []
        for study in prepared:
            began = time.perf_counter()
            predictor.predict(study)
            seconds.append(time.perf_counter() - began)
        result[f"{engine}_s"] = statistics.median(seconds)
        result[f"{engine}_max_s"] = max(seconds)
    window = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 240, 240, 160)).astype(np.float32))
    segresnet = SegResNet(
        init_filters=16, in_channels=4, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), dropout_prob=0.2
    ).eval()
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            began = time.perf_counter()
            segresnet(window)
            seconds.append(time.perf_counter() - began)
    result["segresnet_torch_s"] = statistics.median(seconds)
    result["times_faster_than_segresnet"] = result["segresnet_torch_s"] / result["torch_s"]
    return result


def used(checkout: Path, arguments: Sequence[str], *, code: int | None = 0) -> dict[str, float]:
    """CPU seconds, wall seconds and peak MiB of ``python ARGUMENTS`` in a checkout, children included.

    Args:
        checkout: where the package is imported from.
        arguments: of Python.
        code: the exit code wanted; None takes any but 0.
    """
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once, not at each start
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code and not (code is None and process.returncode):
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
    wall = time.perf_counter() - began
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall, "peak_mib": usage.ru_maxrss / 1024}


def bench_against(studies: list[Path], out: Path, other: Path) -> dict[str, Any]:
    """This checkout and another one in turn; ratios are this over the other."""
    here = Path(__file__).resolve().parents[1]
    segment = ["-m", "brats_seg", "segment"]
    empty = out / "empty"
    empty.mkdir(exist_ok=True)
    rows: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {}

    def both(name: str, arguments: Sequence[str], more: Sequence[str] = (), *, code: int | None = 0) -> None:
        found = []
        for place, extra in ((here, more), (other, ())):
            folder = out / f"against_{place.name}"
            found.append(
                used(place, [str(folder) if word == "OUT" else word for word in (*arguments, *extra)], code=code)
            )
        rows.setdefault(name, []).append((found[0], found[1]))

    for folder in out.glob("against_*"):
        shutil.rmtree(folder)
    for study in studies:
        both("segment", [*segment, str(study), "-o", "OUT", "-q"])
        both("output exists", [*segment, str(study), "-o", "OUT", "-q"], code=None)
        both("wrong folder", [*segment, str(empty), "-o", "OUT", "-q"], code=None)
    roads = [used(here, ["-c", "import brats_seg.run.segment"])["cpu_s"] for _ in range(4)][1:]
    both("batch", [*segment, *map(str, studies), "-o", "OUT", "-q", "--overwrite"], ["--jobs", "2"])
    torch_s = statistics.median(used(here, ["-c", "import torch"])["cpu_s"] for _ in range(3))
    result: dict[str, Any] = {"imports of segment over import torch": statistics.median(roads) / torch_s}
    for name, pairs in rows.items():
        for key in ("cpu_s", "wall_s", "peak_mib"):
            mine, theirs = (statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
            result[f"{name} {key}"] = f"{mine:.2f} against {theirs:.2f}: {mine / theirs:.2f} times"
    return result


def bench_train(device: str) -> dict[str, Any]:
    """Forward and backward pass of the whole-brain network in both precisions, and a phantom drawn for a sample."""
    import numpy as np
    import torch

    from brats_seg.networks.attention_unet import AttentionUNet
    from brats_seg.train.loop import DeepSupervision
    from brats_seg.train.optimiser import RegionLoss
    from brats_seg.train.phantoms import TISSUES, draw_phantoms

    place = torch.device(device)

    def median_s(work: Callable[[], object], times: int) -> float:
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            work()
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[1:])  # the first one prepares

    network = DeepSupervision(AttentionUNet().to(place))
    image = torch.randn(1, 4, 64, 80, 64, generator=torch.Generator().manual_seed(0)).to(place)
    target, loss = (image[:, :3] > 1).float(), RegionLoss().to(place)

    def step(*, is_half: bool) -> None:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=is_half):
            outputs = network(image)
        loss(outputs, target).backward()

    result: dict[str, Any] = {"device": device}
    for name, is_half in (("fp32", False), ("bf16", True)):
        result[f"step_{name}_s"] = median_s(partial(step, is_half=is_half), 8)
    result["bf16_times_faster"] = result["step_fp32_s"] / result["step_bf16_s"]
    shares = np.random.default_rng(0).dirichlet(np.full(len(TISSUES), 0.1), (128, 128, 128)).transpose(3, 0, 1, 2)
    body = torch.from_numpy(np.floor(255 * shares).astype(np.uint8))[None].to(place)
    result["phantom_128_s"] = median_s(lambda: draw_phantoms(body, [1]), 6)
    return result


def bench_accuracy(studies: list[Path], out: Path, scorer: Path) -> dict[str, Any]:
    """Dice of the label maps of :func:`bench_batch` by the independent scorer."""
    from brats_seg.core.labels import guess_schema, present_values
    from brats_seg.files.find import find_study
    from brats_seg.files.nifti import read_label_map
    from brats_seg.models.card import find_model

    seen = sorted({study.name for study in studies} & set(find_model().card.seen))
    if seen:
        raise SystemExit(
            f"the model was trained on {', '.join(seen)}, so its accuracy on them says nothing. "
            "brats-seg crossval judges every study by a model that did not see it."
        )
    lines = ["case\tprediction\treference\tprediction_et\treference_et"]
    for study in studies:
        files = find_study(study)
        if files.labels is None:
            raise SystemExit(f"{study} has no expert label")
        values = present_values(read_label_map(files.labels).data)
        et = 4 if guess_schema(values, file_name=files.labels.name).name == "brats2021" else 3
        found = out / "batch" / files.id / f"{files.id}_dseg.nii.gz"
        lines.append(f"{files.id}\t{found}\t{files.labels}\t3\t{et}")
    pairs = out / "pairs.tsv"
    pairs.write_text("\n".join(lines) + "\n")
    printed = subprocess.run([sys.executable, str(scorer), str(pairs)], capture_output=True, text=True, check=True)
    (out / "scores.tsv").write_text(printed.stdout)
    means = [line.split("\t") for line in printed.stdout.splitlines() if line.startswith("mean of")]
    return {row[1]: {"dice": float(row[2]), "hd95_mm": float(row[3])} for row in means}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder of labelled studies")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--only", default="start,network,segment,batch,accuracy")
    parser.add_argument("--studies", type=int, default=8, help="how many studies to use")
    parser.add_argument("--device", default="cpu", help="of the part 'train' (default: cpu)")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="compare with another checkout, and do no more"
    )
    parser.add_argument("--scorer", type=Path, help="score.py; accuracy is left out without it")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only.split(",")
    if arguments.data is None and set(wanted) - {"start", "train"}:
        parser.error("pass a folder of studies; only 'start' and 'train' do without")
    folders = [] if arguments.data is None else [path for path in arguments.data.iterdir() if path.is_dir()]
    studies = sorted(folders)[: arguments.studies]
    result: dict[str, Any] = {"threads": os.cpu_count()}
    if arguments.against is not None:
        wanted = []
        result["against"] = bench_against(studies, arguments.output.resolve(), arguments.against.resolve())
    if "start" in wanted:
        result["start_s"] = bench_start()
    if "network" in wanted:
        result["network"] = bench_network(studies)
    if "segment" in wanted:
        result["segment"] = bench_segment(studies, arguments.output)
    if "batch" in wanted:
        result["batch"] = bench_batch(studies, arguments.output)
    if "train" in wanted:
        result["train"] = bench_train(arguments.device)
    if "accuracy" in wanted and arguments.scorer is not None:
        result["accuracy"] = bench_accuracy(studies, arguments.output, arguments.scorer)
    (arguments.output / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    for group, values in result.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            shown = f"{value:.3f}" if isinstance(value, float) else value
            print(f"{group:10} {name:30} {shown}")


if __name__ == "__main__":
    main()
