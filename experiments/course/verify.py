"""Measures what ``brats-seg track`` can do, for ``results.md`` beside it: ``python -m experiments.course.verify``.

Every part writes its table into a folder and goes on where it stopped; chance hangs on the seed and a row's number.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.files.output import write_text
from brats_seg.phantom.kinds import TumourKind
from brats_seg.phantom.script import Course
from brats_seg.response.history import ClinicalEvent
from experiments.course.align_study import (
    TARGET_MM,
    MotionConfig,
    MotionTrial,
    PairQuality,
    align_study,
    real_pair,
    share_within,
)
from experiments.course.growth_study import ASKED_ERROR, GROWN_PERCENT, growth_rates, interval_coverage
from experiments.course.scans import scan_timelines
from experiments.course.timelines import TimelineConfig, VolumeRow, draw_timelines, run_timelines
from experiments.course.truth import FAR_POINTS, Compared, compare, events_of, true_history

ALIGNED, ANSWERS, VOLUMES = "align.csv", "answers.csv", "volumes.csv"
CLINICAL = "clinical.csv"
SMALL_ML = 1.0
"""Of enhancement, or of the whole lesion where none enhances."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part; see ``--help``.

    Returns:
        0, or the exit code of what went wrong.
    """
    arguments = _parser().parse_args(argv)
    try:
        lines = arguments.run(arguments)
    except BratsSegError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.course.verify", description=__doc__)
    parts = parser.add_subparsers(required=True, metavar="PART")
    align = parts.add_parser("align", help="real studies aligned to moved, rescanned copies of themselves")
    align.add_argument("studies", type=Path, nargs="+", help="folders of skull-stripped studies with label maps")
    align.add_argument("--motions", type=int, default=MotionConfig.motions)
    align.set_defaults(run=_align)
    pair = parts.add_parser("pair", help="two real visits aligned, every sequence that both have")
    pair.add_argument("visits", type=Path, nargs=2, help="folders of the two visits")
    pair.set_defaults(run=_pair)
    timelines = parts.add_parser("timelines", help="phantom patients followed by true outlines; also growth rates")
    timelines.set_defaults(run=_timelines)
    scans = parts.add_parser("scans", help="the same patients scanned, for brats-seg track, with their clinical table")
    scans.add_argument("--patients", type=int, help="only the first so many (default: all)")
    scans.set_defaults(run=_scans)
    clinical = parts.add_parser("clinical", help="write the clinical table of a phantom data set")
    clinical.add_argument("phantoms", type=Path, help="made by brats-seg phantom")
    clinical.set_defaults(run=_clinical)
    score = parts.add_parser("score", help="answers of brats-seg track held against a phantom data set's truth")
    score.add_argument("phantoms", type=Path, help="made by brats-seg phantom")
    score.add_argument("results", type=Path, help="made by brats-seg track from it")
    score.set_defaults(run=_score)
    for part in (timelines, scans):
        part.add_argument("--visits", type=int, default=TimelineConfig.visits, help="judged visits, at least")
        part.add_argument("--least", type=int, default=TimelineConfig.least, help="times each category occurs")
    for part in (align, timelines, scans, score):
        part.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    for part in (align, timelines, scans):
        part.add_argument("--seed", type=int, default=1)
    return parser


def _align(arguments: argparse.Namespace) -> list[str]:
    done = [_trial(row) for row in _read(arguments.output / ALIGNED)]
    trials = list(done)

    def keep(trial: MotionTrial) -> None:
        trials.append(trial)
        _write(arguments.output / ALIGNED, [asdict(entry) for entry in trials])

    config = MotionConfig(motions=arguments.motions)
    align_study(arguments.studies, np.random.default_rng(arguments.seed), config=config, on_trial=keep, skip=len(done))
    errors = np.array([trial.error_mm for trial in trials])
    altered = [trial for trial in trials if trial.altered]
    return [
        f"{len(trials)} motions of {len({trial.study for trial in trials})} studies, {len(altered)} with the tumour "
        "altered",
        f"mean displacement error: median {np.median(errors):.3f}, 95th percentile {np.quantile(errors, 0.95):.3f}, "
        f"largest {errors.max():.3f} mm",
        f"at most {TARGET_MM} mm: {share_within(trials):.0%} of all"
        + (f", {share_within(altered):.0%} of those with altered tumour" if altered else ""),
        f"refused: {int(np.isinf(errors).sum())}",
    ]


def _trial(row: dict[str, str]) -> MotionTrial:
    numbers = {name: float(row[name]) for name in ("error_mm", "worst_mm", "uncertainty_mm", "turn_deg", "shift_mm")}
    return MotionTrial(study=row["study"], altered=row["altered"] == "True", **numbers)


def _pair(arguments: argparse.Namespace) -> list[str]:
    return [_quality_line(quality) for quality in real_pair(*arguments.visits)]


def _quality_line(quality: PairQuality) -> str:
    if quality.reason:
        return f"{quality.sequence}: refused, {quality.reason}"
    return (
        f"{quality.sequence}: moved {quality.translation_mm:.2f} mm and {quality.rotation_deg:.2f} deg, by the "
        f"{quality.by}, uncertain by {quality.uncertainty_mm:.3f} mm; mutual information "
        f"{quality.information_before:.3f} before, {quality.information_after:.3f} nats after; overlap "
        f"{quality.overlap_before:.4f} before, {quality.overlap_after:.4f} after; "
        f"{quality.apart_mm:.3f} mm from the answer of {quality.against}"
    )


def _timelines(arguments: argparse.Namespace) -> list[str]:
    config, courses = _courses(arguments)
    answers = [_compared(row) for row in _read(arguments.output / ANSWERS)]
    volumes = [_volume(row) for row in _read(arguments.output / VOLUMES)]

    def keep(_patient: str, own: list[Compared], measured: list[VolumeRow]) -> None:
        answers.extend(own)
        volumes.extend(measured)
        _write(arguments.output / VOLUMES, [asdict(row) for row in volumes])
        _write(arguments.output / ANSWERS, [asdict(row) for row in answers])

    known = {row.patient for row in volumes}
    run_timelines(courses, arguments.seed, config, on_patient=keep, skip=known)
    return [*agreement_lines(answers), *growth_lines(volumes, arguments.seed)]


def _compared(row: dict[str, str]) -> Compared:
    return Compared(**{**row, "points": float(row["points"])})  # type: ignore[arg-type]


def _volume(row: dict[str, str]) -> VolumeRow:
    numbers = {name: float(row[name]) for name in ("slice_mm", "true_ml", "found_ml")}
    return VolumeRow(row["patient"], row["visit"], row["story"], int(row["days"]), region=row["region"], **numbers)


def agreement_lines(answers: Sequence[Compared]) -> list[str]:
    """Agreement with the truth, in words, by measure."""
    lines = [f"{len({row.patient for row in answers})} patients"]
    for measure in ("volume", "2d"):
        rows = [row for row in answers if row.measure == measure]
        if not rows:
            continue
        far = [row for row in rows if row.is_far]
        counts = Counter(row.true for row in rows)
        right = Counter(row.true for row in rows if row.agrees)
        lines.append(
            f"{measure}: {_share(rows)} of all visits; {_share(far)} of those more than {FAR_POINTS:g} points from "
            "any threshold"
        )
        lines.append("  by true category: " + ", ".join(f"{name} {right[name]}/{counts[name]}" for name in counts))
        lines += [
            f"  {row.patient} {row.visit}: true {row.true}, found {row.found}, {row.points:.1f} points from a threshold"
            for row in rows
            if not row.agrees
        ]
    return lines


def _share(rows: Sequence[Compared]) -> str:
    right = sum(row.agrees for row in rows)
    return f"{right}/{len(rows)} ({right / len(rows):.1%})" if rows else "none"


def growth_lines(volumes: Sequence[VolumeRow], seed: int) -> list[str]:
    """Errors of growth rates, and coverage of their intervals, in words."""
    rates = growth_rates(volumes)
    grown = [row for row in rates if row.is_grown]
    rest = [abs(row.error_per_day) for row in rates if not row.is_grown]
    lines = []
    if grown:
        errors = np.array([row.relative_error for row in grown])
        lines.append(
            f"growth rate, {len(grown)} times three visits with at least {GROWN_PERCENT:g} % true growth: within "
            f"{ASKED_ERROR:.0%} of truth in {np.mean(errors <= ASKED_ERROR):.1%}; median error {np.median(errors):.2%}"
        )
    if rest:
        lines.append(
            f"the other {len(rest)}: absolute error median {100 * np.median(rest):.4f}, 95th percentile "
            f"{100 * np.quantile(rest, 0.95):.4f} % a day"
        )
    held = interval_coverage(np.random.default_rng(seed))
    lines.append(
        "95 % intervals of the rate that hold it, 200 courses for each measurement error: "
        + ", ".join(f"{cv:.0%}: {share:.1%}" for cv, share in held.items())
    )
    return lines


def _courses(arguments: argparse.Namespace) -> tuple[TimelineConfig, list[Course]]:
    config = TimelineConfig(visits=arguments.visits, least=arguments.least)
    return config, draw_timelines(np.random.default_rng(arguments.seed), config)


def _scans(arguments: argparse.Namespace) -> list[str]:
    courses = _courses(arguments)[1][: arguments.patients]

    def told(name: str, written: int) -> None:
        sys.stderr.write(f"{name}: {written} visits made\n")

    misfits = scan_timelines(courses, arguments.output, seed=arguments.seed, on_patient=told)
    passed = [f"passed over, their lesions fit nowhere: {', '.join(misfits)}"] if misfits else []
    return [*passed, *_clinical_table(arguments.output)]


def _clinical(arguments: argparse.Namespace) -> list[str]:
    return _clinical_table(arguments.phantoms)


def _clinical_table(phantoms: Path) -> list[str]:
    rows = []
    for truth in _patients(phantoms):
        for event in _events(truth):
            rows.append({"patient": truth["patient"], "date": event.day.isoformat(), "event": event.kind.value,
                         "value": ""})  # fmt: skip
    _write(phantoms / CLINICAL, rows)
    return [f"{len(rows)} events in {phantoms / CLINICAL}"]


def _score(arguments: argparse.Namespace) -> list[str]:
    truths = _patients(arguments.phantoms)
    rows = score_tracks(truths, arguments.results)
    _write(arguments.output / ANSWERS, [asdict(row) for row in rows])
    groups = {truth["patient"]: _groups_of(truth) for truth in truths}
    lines = agreement_lines(rows)
    for name in dict.fromkeys(name for names in groups.values() for name in names):
        own = [row for row in rows if name in groups[row.patient]]
        lines += [f"{name}: {line}" for line in agreement_lines(own) if "%" in line]
    return lines


def _groups_of(truth: dict[str, Any]) -> tuple[str, ...]:
    """Groups of patients that are told apart: by kind, and by the smallest that a lesion ever is."""
    kinds = {lesion["id"]: lesion["kind"] for lesion in truth["course"]["lesions"]}
    sizes = [
        lesion["volume_ml"].get("WT" if kinds[lesion["lesion"]] == TumourKind.LOW_GRADE else "ET", 0.0)
        for visit in truth["visits"]
        for lesion in visit["truth"]["lesions"]
    ]
    smallest = min((size for size in sizes if size > 0), default=0.0)
    size = f"with a lesion under {SMALL_ML:g} ml at some visit" if smallest < SMALL_ML else "with larger lesions only"
    return (*sorted(set(kinds.values())), size)


def score_tracks(truths: Sequence[dict[str, Any]], results: Path) -> list[Compared]:
    """Answers of ``brats-seg track`` held against the truth of the phantoms it followed.

    Args:
        truths: content of ``phantom.json`` of every patient, made by ``brats-seg phantom``.
        results: made by ``brats-seg track`` with the clinical table of ``clinical``.

    Raises:
        InputError: if one was not followed.
    """
    rows: list[Compared] = []
    for truth in truths:
        found = _read(results / truth["patient"] / "responses.csv")
        if not found:
            raise InputError(f"{results} holds no responses of {truth['patient']}. Follow it with brats-seg track.")
        answers = {
            (row["visit"], row["measure"]): (row["category"], row["status"])
            for row in found
            if row["compartment"] == "overall"
        }
        kinds = {lesion["id"]: TumourKind(lesion["kind"]) for lesion in truth["course"]["lesions"]}
        history = true_history(truth["patient"], [v["truth"] for v in truth["visits"]], kinds, _events(truth))
        rows += compare(history, answers)
    return rows


def _events(truth: dict[str, Any]) -> tuple[ClinicalEvent, ...]:
    visits = truth["course"]["visits"]
    return events_of([date.fromisoformat(visit["date"]) for visit in visits], [visit["treatment"] for visit in visits])


def _patients(phantoms: Path) -> list[dict[str, Any]]:
    """The truth of every patient of a phantom data set.

    Raises:
        InputError: if there is none.
    """
    found = sorted(phantoms.glob("sub-*/phantom.json"))
    if not found:
        raise InputError(f"{phantoms} holds no phantoms. Make some with: brats-seg phantom -o {phantoms}")
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none where there is no table yet."""
    if not path.is_file():
        return []
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n") if rows else None
    if writer is not None:
        writer.writeheader()
        writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, stream.getvalue())


if __name__ == "__main__":
    sys.exit(main())
