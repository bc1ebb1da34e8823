"""Clinical facts at a visit, and what they do to a category that was read from images.

An image holds neither the steroid dose nor the clinical status, the end of radiotherapy or a new treatment. They come
from the clinical table; each one that is absent is named, and the answer is then a radiographic category.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from brats_seg.longitudinal.criteria import Criteria
from brats_seg.longitudinal.history import ClinicalStatus, EventKind, PatientHistory
from brats_seg.longitudinal.reading import Category, Reading

EVALUABLE = frozenset({Category.CR, Category.PR, Category.MR, Category.SD})
"""Categories that a raised steroid dose makes impossible to judge."""


@dataclass(frozen=True)
class Facts:
    """Clinical facts at one visit.

    Attributes:
        steroid_mg: daily dexamethasone at the visit; None where the table has no dose at all.
        baseline_steroid_mg: the same at the baseline visit.
        status: clinical status since baseline; None where not recorded.
        days_since_radiotherapy: since the latest end of radiotherapy; None where none is recorded before the visit.
        missing: names of the facts that are not known.
    """

    steroid_mg: float | None
    baseline_steroid_mg: float | None
    status: ClinicalStatus | None
    days_since_radiotherapy: int | None
    missing: tuple[str, ...]


def facts_at(history: PatientHistory, *, day: date, baseline: date) -> Facts:
    """Facts on a day, for judging it against the scan of another day.

    Before the first recorded steroid dose the dose counts as 0 mg, because a record means "from that day on"; that is
    said under ``missing``. A clinical status of the baseline day or before says nothing about change since baseline.
    """
    missing: list[str] = []
    radiotherapy = history.last_before(EventKind.RADIOTHERAPY_END, day)
    if not history.days_of(EventKind.RADIOTHERAPY_END):
        missing.append(EventKind.RADIOTHERAPY_END.value)
    doses = history.days_of(EventKind.STEROID_MG)
    now, before = _dose(history, day), _dose(history, baseline)
    if not doses:
        missing.append(EventKind.STEROID_MG.value)
    elif doses[0] > baseline:
        missing.append(f"{EventKind.STEROID_MG.value} before {doses[0]} (taken as 0)")
    status = history.last_before(EventKind.CLINICAL_STATUS, day)
    if status is not None and status.day <= baseline:
        status = None
    if status is None:
        missing.append(EventKind.CLINICAL_STATUS.value)
    if not history.days_of(EventKind.TREATMENT_START):
        missing.append(EventKind.TREATMENT_START.value)
    return Facts(
        steroid_mg=now,
        baseline_steroid_mg=before,
        status=status.status if status is not None else None,
        days_since_radiotherapy=None if radiotherapy is None else (day - radiotherapy.day).days,
        missing=tuple(missing),
    )


def _dose(history: PatientHistory, day: date) -> float | None:
    if not history.days_of(EventKind.STEROID_MG):
        return None
    event = history.last_before(EventKind.STEROID_MG, day)
    return event.steroid_mg if event is not None else 0.0


def with_facts(reading: Reading, facts: Facts, criteria: Criteria) -> Reading:
    """The reading with clinical decline, steroids and missing facts taken into account.

    Clinical decline is progression. A steroid dose above that of baseline is never progression by itself, and leaves
    CR, PR, MR and SD not evaluable. CR with more than physiologic replacement counts as PR.
    """
    category, reasons = reading.category, list(reading.reasons)
    if facts.status is ClinicalStatus.WORSE and criteria.clinical_decline_is_progression.value:
        if category is not Category.PD:
            reasons.insert(0, f"PD: clinical decline since baseline (the images alone: {category})")
        category = Category.PD
    now, before, limit = facts.steroid_mg, facts.baseline_steroid_mg, criteria.physiologic_steroid_mg.value
    if category in EVALUABLE and now is not None and before is not None:
        if now > before:
            reasons.insert(
                0, f"NE: {now:g} mg dexamethasone a day, {before:g} mg at baseline (the images alone: {category})"
            )
            category = Category.NE
        elif category is Category.CR and now > limit:
            reasons.insert(
                0, f"PR: nothing is seen, but CR allows no more than {limit:g} mg dexamethasone, not {now:g}"
            )
            category = Category.PR
    judging = {EventKind.STEROID_MG.value, EventKind.CLINICAL_STATUS.value} & set(facts.missing)
    if judging and category is not Category.NE:
        reasons.append("radiographic category")
    missing = (*reading.missing, *facts.missing, *criteria.reader_facts.value)
    return replace(reading, category=category, reasons=tuple(reasons), missing=missing)
