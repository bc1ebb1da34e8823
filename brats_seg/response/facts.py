"""Clinical facts at a visit, and what they do to a category that was read from images.

An image holds neither the steroid dose nor the clinical status, the end of radiotherapy or a new treatment. They come
from the clinical table; each one that is absent is named, and the answer is then a radiographic category.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from brats_seg.response.criteria import Criteria
from brats_seg.response.history import ClinicalStatus, EventKind, PatientHistory
from brats_seg.response.reading import Category, Look, Reading

EVALUABLE = frozenset({Category.CR, Category.PR, Category.MR, Category.SD})
"""Categories that a raised steroid dose makes impossible to judge."""


@dataclass(frozen=True)
class Facts:
    """Clinical facts at one visit.

    Attributes:
        steroid_mg: daily dexamethasone at the visit; None where the table has no dose at all.
        baseline_steroid_mg: the same at the baseline visit.
        declined_on: day of the record that says the status is worse than at baseline; None where none does.
        days_since_radiotherapy: since the latest end of radiotherapy; None where none is recorded before the visit.
        missing: names of the facts that are not known.
    """

    steroid_mg: float | None
    baseline_steroid_mg: float | None
    declined_on: date | None
    days_since_radiotherapy: int | None
    missing: tuple[str, ...]

    @property
    def raised(self) -> bool:
        """Whether the dose is above that of baseline."""
        now, before = self.steroid_mg, self.baseline_steroid_mg
        return now is not None and before is not None and now > before


def facts_at(history: PatientHistory, *, day: date, baseline: date, since: date, until: date | None = None) -> Facts:
    """Facts on a day, for judging it against the scan of another day.

    Before the first recorded steroid dose the dose counts as 0 mg, because a record means "from that day on"; that is
    named under ``missing``. A clinical status recorded up to ``since`` does not count.

    Args:
        history: visits and events.
        day: of the scan.
        baseline: day of the baseline scan.
        since: day after which a change of the clinical status belongs to this episode.
        until: last day of it for this scan; None for the day of the scan. The last scan of an episode takes what was
            recorded until the next treatment.
    """
    missing: list[str] = []
    radiotherapy = history.last_before(EventKind.RADIOTHERAPY_END, day)
    if not history.days_of(EventKind.RADIOTHERAPY_END):
        missing.append(EventKind.RADIOTHERAPY_END.value)
    doses = history.days_of(EventKind.STEROID_MG)
    if not doses:
        missing.append(EventKind.STEROID_MG.value)
    elif doses[0] > baseline:
        missing.append(f"{EventKind.STEROID_MG.value} before {doses[0]} (taken as 0)")
    status = history.last_before(EventKind.CLINICAL_STATUS, until or day)
    if status is not None and status.day <= since:
        status = None
    if status is None:
        missing.append(EventKind.CLINICAL_STATUS.value)
    if not history.days_of(EventKind.TREATMENT_START):
        missing.append(EventKind.TREATMENT_START.value)
    return Facts(
        steroid_mg=_dose(history, day),
        baseline_steroid_mg=_dose(history, baseline),
        declined_on=status.day if status is not None and status.status is ClinicalStatus.WORSE else None,
        days_since_radiotherapy=None if radiotherapy is None else (day - radiotherapy.day).days,
        missing=tuple(missing),
    )


def _dose(history: PatientHistory, day: date) -> float | None:
    if not history.days_of(EventKind.STEROID_MG):
        return None
    event = history.last_before(EventKind.STEROID_MG, day)
    return event.steroid_mg if event is not None else 0.0


def with_facts(reading: Reading, facts: Sequence[Facts], criteria: Criteria) -> Reading:
    """The reading with clinical decline, steroids and missing facts taken into account.

    Clinical decline is progression. A steroid dose above that of baseline is never progression by itself, and leaves
    CR, PR, MR and SD not evaluable. CR with more than physiologic replacement counts as PR. Growth under a dose that
    was lowered since the nadir is named, and not evaluable where the criteria ask for a steady dose.

    Args:
        reading: of the numbers.
        facts: of the visits of the episode up to this one.
        criteria: the table in force.
    """
    own = facts[-1]
    reading = _under_lowered_dose(reading, facts, criteria)
    category, reasons, declined = reading.category, list(reading.reasons), False
    if own.declined_on is not None and criteria.clinical_decline_is_progression.value:
        declined = category is not Category.PD
        if declined:
            reasons.insert(0, f"PD: clinical decline of {own.declined_on} (the images alone: {category})")
        category = Category.PD
    now, before, limit = own.steroid_mg, own.baseline_steroid_mg, criteria.physiologic_steroid_mg.value
    if category in EVALUABLE and own.raised:
        reasons.insert(
            0, f"NE: {now:g} mg dexamethasone a day, {before:g} mg at baseline (the images alone: {category})"
        )
        category = Category.NE
    elif category is Category.CR and now is not None and now > limit:
        reasons.insert(0, f"PR: nothing is seen, but CR allows no more than {limit:g} mg dexamethasone, not {now:g}")
        category = Category.PR
    judging = {EventKind.STEROID_MG.value, EventKind.CLINICAL_STATUS.value} & set(own.missing)
    if judging and category is not Category.NE:
        reasons.append("radiographic category")
    missing = (*reading.missing, *own.missing, *criteria.reader_facts.value)
    return replace(reading, category=category, reasons=tuple(reasons), missing=missing, by_decline=declined)


def _under_lowered_dose(reading: Reading, facts: Sequence[Facts], criteria: Criteria) -> Reading:
    """Growth since a nadir that was measured under more steroids than now."""
    now = facts[-1].steroid_mg
    before = facts[reading.nadir].steroid_mg if reading.nadir is not None else None
    if not reading.grown or now is None or before is None or now >= before:
        return reading
    words = f"dexamethasone was lowered from {before:g} to {now:g} mg a day since the nadir, which may explain growth"
    looks = (*reading.looks, Look("steroids", words))
    if not criteria.growth_needs_steady_steroids.value:
        return replace(reading, reasons=(*reading.reasons, words), looks=looks)
    return replace(reading, category=Category.NE, reasons=(f"NE: {words}", *reading.reasons), looks=looks)
