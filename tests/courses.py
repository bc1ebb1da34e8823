"""A short way to write a patient's course for tests.

A visit is ``(day, lesions)``; a lesion's name begins with E (enhancing) or N (non-enhancing), its value is
``(long_mm, short_mm)``, a volume in ml, or ``(long_mm, short_mm, volume_ml)``. Events are ``(day, kind[, value])``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from brats_seg.response.criteria import Compartment, Criteria
from brats_seg.response.history import (
    ClinicalEvent,
    ClinicalStatus,
    EventKind,
    LesionMeasurement,
    PatientHistory,
    VisitMeasurements,
)

START = date(2024, 1, 1)


def with_value(criteria: Criteria, row: str, value: object) -> Criteria:
    """The criteria with one row's value replaced."""
    return replace(criteria, **{row: replace(getattr(criteria, row), value=value)})


def on(day: int) -> date:
    return START + timedelta(days=day)


def lesion(name: str, value: Any) -> LesionMeasurement:
    compartment = Compartment.ENHANCING if name.startswith("E") else Compartment.NON_ENHANCING
    if not isinstance(value, tuple):
        return LesionMeasurement(name, compartment, volume_ml=value)
    return LesionMeasurement(name, compartment, *value)


def event(day: int, kind: str, value: Any = None) -> ClinicalEvent:
    which = EventKind(kind)
    if which is EventKind.STEROID_MG:
        return ClinicalEvent(on(day), which, steroid_mg=value)
    if which is EventKind.CLINICAL_STATUS:
        return ClinicalEvent(on(day), which, status=ClinicalStatus(value))
    return ClinicalEvent(on(day), which)


def history(visits: list[tuple[int, dict[str, Any]]], events: list[tuple[Any, ...]] | None = None) -> PatientHistory:
    return PatientHistory(
        "P1",
        tuple(
            VisitMeasurements(f"v{number}", on(day), tuple(lesion(*item) for item in lesions.items()))
            for number, (day, lesions) in enumerate(visits)
        ),
        tuple(event(*values) for values in events or []),
    )
