"""Phantom timelines held against their truth, on courses small enough for a test."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brats_seg.core.errors import InputError
from brats_seg.phantom.dataset import DatasetOptions, PatientDone
from brats_seg.phantom.kinds import TumourKind
from brats_seg.phantom.script import Course, PatientKind, Story, draw_course
from brats_seg.response.history import EventKind
from experiments.course import scans as course_scans
from experiments.course.align_study import _smooth_field
from experiments.course.growth_study import growth_rates, interval_coverage
from experiments.course.scans import scan_timelines
from experiments.course.timelines import (
    JUDGED,
    TimelineConfig,
    VolumeRow,
    _scripted_categories,
    draw_timelines,
    run_timelines,
)
from experiments.course.truth import Compared, compare, events_of, true_history
from experiments.course.verify import agreement_lines, growth_lines, main

KINDS = {"L1": TumourKind.HIGH_GRADE}


def truth(day: str, visit: str, volume_ml: float, short_mm: float = 20.0) -> dict[str, Any]:
    volumes = {"ET": volume_ml, "WT": 4 * volume_ml}
    return {
        "visit": visit,
        "day": day,
        "lesions": [{"lesion": "L1", "long_mm": short_mm + 5, "short_mm": short_mm, "volume_ml": volumes}],
    }


DAYS = ("2024-01-01", "2024-03-01", "2024-05-01", "2024-07-01")


def course(volumes: tuple[float, ...]) -> list[dict[str, Any]]:
    return [truth(day, f"0{n + 1}", ml) for n, (day, ml) in enumerate(zip(DAYS, volumes, strict=False))]


def test_treatments_of_a_script_become_clinical_events() -> None:
    days = [date.fromisoformat(day) for day in DAYS]
    kinds = [event.kind for event in events_of(days, ["", "radiotherapy", "", "resection"])]
    assert kinds == [EventKind.BASELINE, EventKind.RADIOTHERAPY_END, EventKind.SURGERY]
    assert events_of(days, ["resection", "", "", ""]) == ()


def test_answers_are_compared_visit_by_visit_with_their_distance_from_a_threshold() -> None:
    history = true_history("P", course((10.0, 11.0, 13.0, 15.0)), KINDS, ())
    found = {("ses-02", "volume"): ("SD", ""), ("ses-03", "volume"): ("SD", ""), ("ses-04", "volume"): ("SD", "")}
    rows = [row for row in compare(history, found) if row.measure == "volume"]
    assert [(row.true, row.found, row.agrees) for row in rows] == [
        ("SD", "SD", True), ("SD", "SD", True), ("PD", "SD", False),
    ]  # fmt: skip
    assert [round(row.points, 1) for row in rows] == [30.0, 10.0, 10.0]
    assert [row.is_far for row in rows] == [True, False, False]
    assert {row.found for row in compare(history, {})} == {"missing"}


def test_a_progression_that_stands_is_as_far_as_where_it_began() -> None:
    history = true_history("P", course((10.0, 15.0, 30.0, 12.0)), KINDS, ())
    rows = [row for row in compare(history, {}) if row.measure == "volume"]
    assert [row.true for row in rows] == ["PD", "PD", "PD"]
    assert [round(row.points, 1) for row in rows] == [10.0, 10.0, 10.0]


def test_a_lesion_about_as_large_as_is_measurable_is_near() -> None:
    visits = [truth(day, f"0{n + 1}", 2.0, short_mm=10.5) for n, day in enumerate(DAYS[:2])]
    (row,) = (row for row in compare(true_history("P", visits, KINDS, ()), {}) if row.measure == "volume")
    assert row.points == pytest.approx(5.0)


def test_every_category_is_drawn_often_enough() -> None:
    config = TimelineConfig(visits=20, least=2)
    courses = draw_timelines(np.random.default_rng(0), config)
    counts = Counter(category for course in courses for category in _scripted_categories(course))
    assert counts.total() >= 20 and all(counts[category] >= 2 for category in JUDGED)
    again = draw_timelines(np.random.default_rng(0), config)
    assert [course.seed for course in again] == [course.seed for course in courses]


@pytest.mark.slow
@pytest.mark.usefixtures("coarse_brains")
def test_true_outlines_of_a_small_phantom_are_followed() -> None:
    course = draw_course(3, PatientKind.METASTASES, visits=2, patient_id="P", story=Story.RESPONSE)
    found: list[tuple[list[Compared], list[VolumeRow]]] = []
    run_timelines([course], 1, TimelineConfig(slices_mm=(1.0,)), on_patient=lambda _, a, v: found.append((a, v)))
    ((answers, volumes),) = found
    assert [row.measure for row in answers][-1:] == ["volume"] and all(row.agrees for row in answers), answers
    for row in volumes:
        assert row.found_ml == pytest.approx(row.true_ml, rel=0.05, abs=0.05)
    run_timelines([course], 1, TimelineConfig(), on_patient=lambda *_: pytest.fail("done before"), skip={"P"})


def volumes(patient: str, values: tuple[float, ...], *, error: float = 1.0) -> list[VolumeRow]:
    return [
        VolumeRow(patient, f"ses-0{n + 1}", "growth", 60 * n, 1.0, region, ml if region == "ET" else 2 * ml,
                  (ml if region == "ET" else 2 * ml) * (error if n else 1.0))
        for n, ml in enumerate(values) for region in ("ET", "TC", "WT")
    ]  # fmt: skip


def test_rates_over_three_visits() -> None:
    rows = growth_rates([*volumes("A", (2.0, 3.0, 4.0, 5.0), error=1.02), *volumes("B", (2.0, 0.0, 1.0))])
    assert [(row.patient, row.first, row.region) for row in rows] == [("A", "ses-01", "ET"), ("A", "ses-02", "ET")]
    assert [round(row.growth_percent) for row in rows] == [100, 67] and all(row.is_grown for row in rows)
    assert 0 < rows[0].relative_error < 0.05 and rows[1].relative_error == pytest.approx(0, abs=1e-9)
    assert "within 10% of truth in 100.0%" in growth_lines(volumes("A", (2.0, 3.0, 4.0)), seed=1)[0]


def test_intervals_of_the_rate_hold_it() -> None:
    held = interval_coverage(np.random.default_rng(5), series=200, errors=(0.05,))
    assert 0.90 <= held[0.05] <= 0.99


def test_agreement_is_told_by_category_and_every_difference_is_named() -> None:
    rows = [Compared("P", f"v{n}", "volume", true, "", "SD", "", 30.0) for n, true in enumerate(("SD", "SD", "PD"))]
    text = "\n".join(agreement_lines(rows))
    assert "2/3 (66.7%) of all visits" in text and "PD 0/1" in text and "P v2: true PD, found SD" in text


def test_tracks_of_a_phantom_data_set_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantoms, results = tmp_path / "phantoms", tmp_path / "results"
    (phantoms / "sub-001").mkdir(parents=True)
    (results / "sub-001").mkdir(parents=True)
    visits = course((10.0, 2.0))
    record = {
        "patient": "sub-001",
        "course": {
            "visits": [{"date": visit["day"], "treatment": ""} for visit in visits],
            "lesions": [{"id": "L1", "kind": "high_grade"}],
        },
        "visits": [{"truth": visit} for visit in visits],
    }
    (phantoms / "sub-001" / "phantom.json").write_text(json.dumps(record))
    (results / "sub-001" / "responses.csv").write_text(
        "visit,measure,compartment,category,status\nses-02,volume,overall,PR,preliminary\nses-02,2d,overall,SD,\n"
    )
    assert main(["clinical", str(phantoms)]) == 0
    assert (phantoms / "clinical.csv").read_text() == "patient,date,event,value\nsub-001,2024-01-01,baseline,\n"
    assert main(["score", str(phantoms), str(results), "-o", str(tmp_path / "score")]) == 0
    told = capsys.readouterr().out
    assert "\nvolume: 1/1 (100.0%)" in told
    assert "high_grade: volume: 1/1 (100.0%)" in told and "with larger lesions only: volume: 1/1 (100.0%)" in told
    assert "under 1 ml" not in told
    assert main(["score", str(tmp_path), str(results), "-o", str(tmp_path / "score")]) == 3


def test_a_coil_field_is_smooth_and_new_each_time() -> None:
    rng = np.random.default_rng(0)
    one, other = (_smooth_field(rng, (40, 30, 20)) for _ in range(2))
    assert one.shape == (40, 30, 20) and not np.allclose(one, other)
    assert np.abs(np.diff(one, axis=0)).max() < 0.5 * one.std()


def test_timelines_are_scanned_under_bids_names_and_those_that_fit_nowhere_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [
        draw_course(seed, PatientKind.HIGH_GRADE, visits=3, patient_id=f"timeline-{seed:03d}") for seed in (1, 2, 3)
    ]
    written: list[tuple[str, int, int]] = []

    def write(course: Course, options: DatasetOptions, number: int, _output: Path) -> PatientDone:
        if number == 2:
            raise InputError("no room")
        written.append((course.patient_id, course.seed, options.visits))
        return PatientDone((), 3)

    monkeypatch.setattr(course_scans, "write_course", write)
    told: list[tuple[str, int]] = []
    misfits = scan_timelines(drawn, tmp_path, seed=1, on_patient=lambda name, new: told.append((name, new)))
    assert misfits == ("timeline-002",)
    assert written == [("sub-001", drawn[0].seed, 3), ("sub-003", drawn[2].seed, 3)]
    assert told == [("sub-001", 3), ("sub-003", 3)]
