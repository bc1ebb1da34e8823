"""Typed values of a patient's history refuse what does not make sense, and say what to do."""

from __future__ import annotations

from typing import Any

import pytest
from courses import event, history, lesion, on

from brats_seg.core.errors import InputError
from brats_seg.response.criteria import Compartment
from brats_seg.response.history import (
    ClinicalEvent,
    ClinicalStatus,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)

ET = Compartment.ENHANCING


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"long_mm": -1.0, "short_mm": -1.0}, r"long_mm is -1; it must be 0 or more"),
        ({"volume_ml": float("nan")}, r"volume_ml is nan"),
        ({"volume_ml": float("inf")}, r"volume_ml is inf"),
        ({"long_mm": 10.0, "short_mm": 11.0}, r"short_mm 11 is longer than long_mm 10. Swap"),
        ({"long_mm": 10.0}, r"only long_mm. Give both"),
        ({"short_mm": 10.0}, r"only short_mm. Give both"),
        ({"long_mm": 10.0, "short_mm": 0.0}, r"Give 0 for both if it is gone"),
        ({"volume_ml": 12000.0}, r"more than 3000. Is it in another unit"),
        ({"long_mm": 301.0, "short_mm": 2.0}, r"more than 300"),
        ({"part_of": "L1", "volume_ml": 1.0}, r"part of itself"),
    ],
)
def test_lesion_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        LesionMeasurement("L1", ET, line=7, **values)
    assert str(caught.value).startswith("line 7: ")


def test_a_lesion_without_numbers_is_seen_and_one_with_zeros_is_gone() -> None:
    assert LesionMeasurement("L1", ET).present
    assert not LesionMeasurement("L1", ET, 0.0, 0.0, 0.0).present
    assert LesionMeasurement("L1", ET, 0.0, 0.0, 0.01).present
    assert LesionMeasurement("L1", ET, 3.0, 2.0, 0.0).product_mm2 == 6.0
    assert VisitMeasurements("v", on(0), (LesionMeasurement("L1", ET, 0.0, 0.0),)).of(ET) == ()


def test_nameless_lesions_and_visits_are_refused() -> None:
    with pytest.raises(InputError, match="needs a name"):
        LesionMeasurement(" ", ET)
    with pytest.raises(InputError, match="visit needs a name"):
        VisitMeasurements("", on(0))


def test_one_row_per_lesion_and_visit() -> None:
    twice = (LesionMeasurement("L1", ET, line=2), LesionMeasurement("L1", ET, line=5))
    with pytest.raises(InputError, match=r"line 5: lesion 'L1' \(enhancing\) is listed twice .*first in line 2"):
        VisitMeasurements("v", on(0), twice)
    both = (lesion("E1", 1.0), LesionMeasurement("E1", Compartment.NON_ENHANCING, volume_ml=2.0))
    assert len(VisitMeasurements("v", on(0), both).lesions) == 2, "the same name in the other compartment is allowed"


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (EventKind.STEROID_MG, {}, "belongs to steroid_mg"),
        (EventKind.SURGERY, {"steroid_mg": 4.0}, "belongs to steroid_mg"),
        (EventKind.CLINICAL_STATUS, {}, "stable, better, worse"),
        (EventKind.BASELINE, {"status": ClinicalStatus.WORSE}, "belongs to clinical_status"),
        (EventKind.STEROID_MG, {"steroid_mg": -4.0}, "steroid_mg is -4"),
        (EventKind.STEROID_MG, {"steroid_mg": 4000.0}, "another unit"),
    ],
)
def test_event_is_refused(kind: EventKind, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClinicalEvent(on(0), kind, **values)


def test_patient_is_refused() -> None:
    with pytest.raises(InputError, match="patient P1 has no visit"):
        PatientHistory("P1", ())
    visit = VisitMeasurements("v", on(0))
    with pytest.raises(InputError, match="two visits are called v"):
        PatientHistory("P1", (visit, VisitMeasurements("v", on(9))))
    with pytest.raises(InputError, match="two visits have the date 2024-01-01"):
        PatientHistory("P1", (visit, VisitMeasurements("w", on(0))))
    with pytest.raises(InputError, match=r"baseline 2024-01-05 is the date of no visit \(visits: 2024-01-01\)"):
        history([(0, {})], [(4, "baseline")])
    with pytest.raises(InputError, match="two different values of steroid_mg on 2024-01-01"):
        history([(0, {})], [(0, "steroid_mg", 2.0), (0, "steroid_mg", 4.0)])


def test_history_is_put_in_order_of_time() -> None:
    case = PatientHistory(
        "P1",
        (VisitMeasurements("late", on(50)), VisitMeasurements("early", on(0))),
        (event(40, "steroid_mg", 4.0), event(10, "steroid_mg", 2.0)),
    )
    assert [visit.visit for visit in case.visits] == ["early", "late"]
    assert case.days_of(EventKind.STEROID_MG) == (on(10), on(40))
    last = case.last_before(EventKind.STEROID_MG, on(39))
    assert last is not None
    assert last.steroid_mg == 2.0
    assert case.last_before(EventKind.STEROID_MG, on(9)) is None
