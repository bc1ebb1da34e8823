"""Clinical events: which visit is the baseline, which events set a new one, and what facts do to a category.

An episode is a run of visits judged against one baseline. Conventions of the criteria (RANO 2.0: Wen 2023; the older
criteria leave it mostly open and follow the same rules here): newly diagnosed, the first MRI after radiotherapy;
recurrent, the MRI before the new treatment; surgery changes the tumour itself, so the first MRI after it starts anew.
Radiotherapy that is itself judged, against a marked baseline or an earlier radiotherapy, starts anew only after a
progression. Events count in the order of their days; visits before the first baseline are not judged.

An image holds neither the steroid dose nor the clinical status, the end of radiotherapy or a new treatment. They come
from the clinical table; each one that is absent is named, and the answer is then a radiographic category.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from brats_seg.core.words import counted
from brats_seg.response.criteria import Criteria
from brats_seg.response.history import ClinicalEvent, ClinicalStatus, EventKind, PatientHistory
from brats_seg.response.responses import Category, Episode, Look, Response

SETS_BASELINE = (EventKind.BASELINE, EventKind.RADIOTHERAPY_END, EventKind.SURGERY, EventKind.TREATMENT_START)
EVALUABLE = frozenset({Category.CR, Category.PR, Category.MR, Category.SD})
"""Categories that a raised steroid dose makes impossible to judge."""


def episodes_of(
    history: PatientHistory, criteria: Criteria, progressed: Callable[[Episode], bool]
) -> tuple[Episode, ...]:
    """Episodes in order of time; at least one.

    Args:
        criteria: for the usual window of the baseline scan, which is only mentioned and never refuses a scan.
        progressed: whether any visit of an episode is a progression that stands.
    """
    days = [visit.day for visit in history.visits]
    events = [event for event in history.events if event.kind in SETS_BASELINE]
    first = _first_episode(events, days, criteria)
    episodes = [first]
    for event in events:
        current, following = episodes[-1], _set_by(event, days, criteria)
        if following is None or event is first.cause or _is_judged(event, current, days, progressed):
            continue
        if following.baseline == current.baseline:
            episodes[-1] = _also_set_by(current, following)
        elif following.baseline > current.baseline:
            end = following.baseline if following.judged_before else following.baseline - 1
            episodes[-1] = replace(current, last=end)
            episodes.append(following)
    return tuple(episodes)


def _is_judged(
    event: ClinicalEvent, current: Episode, days: Sequence[date], progressed: Callable[[Episode], bool]
) -> bool:
    """Whether a radiotherapy is judged by the episode it ends in, instead of opening the next."""
    if event.kind is not EventKind.RADIOTHERAPY_END or current.cause is None:
        return False
    if current.cause.kind not in (EventKind.BASELINE, EventKind.RADIOTHERAPY_END):
        return False
    before = [index for index, visit in enumerate(days) if visit <= event.day]
    return not before or before[-1] <= current.baseline or not progressed(replace(current, last=before[-1]))


def _first_episode(events: Sequence[ClinicalEvent], days: Sequence[date], criteria: Criteria) -> Episode:
    """By a marked baseline; else by radiotherapy, if no earlier event needs the scans before it; else the first visit.

    A treatment with two or more scans before it is judged from the first visit on, and opens a second episode: what
    made it necessary is often a progression.
    """
    marked = [event for event in events if event.kind is EventKind.BASELINE]
    setting = [event for event in (marked or events) if _set_by(event, days, criteria) is not None]
    cause = setting[0] if setting else None
    if cause is not None and cause.kind is EventKind.RADIOTHERAPY_END:  # of several before the scan the last counts
        scan = next(visit for visit in days if visit > cause.day)
        cause = [event for event in setting if event.kind is cause.kind and event.day < scan][-1]
    found = _set_by(cause, days, criteria) if cause is not None else None
    whole = {EventKind.BASELINE, EventKind.RADIOTHERAPY_END}
    if cause is not None and found is not None and (cause.kind in whole or found.baseline == 0):
        return replace(found, judged_before=False)
    why = "first visit"
    late = [event for event in events if event not in setting]
    if late:
        where = "before the first" if late[0].day < days[0] else "after the last"
        why += f"; the {late[0].kind} of {late[0].day} comes {where} scan"
    elif not events:
        why += ", for want of radiotherapy_end, treatment_start or baseline before it"
    return Episode(0, len(days) - 1, why, days[0])


def _set_by(event: ClinicalEvent, days: Sequence[date], criteria: Criteria) -> Episode | None:
    """The episode an event opens, to the last visit; None if no scan fits it."""
    last, day = len(days) - 1, event.day
    if event.kind is EventKind.BASELINE:
        return Episode(days.index(day), last, "marked as baseline in the clinical table", day, event)
    if event.kind is EventKind.TREATMENT_START:
        before = [index for index, visit in enumerate(days) if visit <= day]
        why = f"last scan before the treatment of {day}"
        return Episode(before[-1], last, why, day, event, judged_before=True) if before else None
    after = next((index for index, visit in enumerate(days) if visit > day), None)
    if after is None:
        return None
    if event.kind is EventKind.SURGERY:
        return Episode(after, last, f"first scan after the surgery of {day}", days[after], event)
    return Episode(after, last, _after_radiotherapy(day, days[after], criteria), days[after], event)


def _after_radiotherapy(day: date, scan: date, criteria: Criteria) -> str:
    gap = (scan - day).days
    start, stop = criteria.baseline_from_days.value, criteria.baseline_to_days.value
    usual = "" if start <= gap <= stop else f", outside the usual {start} to {stop} days"
    return f"first scan after radiotherapy, {counted(gap, 'day')} after its end on {day}{usual}"


def _also_set_by(current: Episode, following: Episode) -> Episode:
    """The same baseline for one more reason."""
    if current.cause is None:
        return replace(following, judged_before=False, last=current.last)
    why = current.why if following.why in current.why else f"{current.why}; {following.why}"
    return replace(current, why=why, since=max(current.since, following.since))


@dataclass(frozen=True)
class Facts:
    """Clinical facts at one visit.

    Attributes:
        steroid_mg: daily dexamethasone at the visit; None where the table has no dose at all.
        baseline_steroid_mg: the same at the baseline visit.
        declined_on: day of the record that says the status is worse than at baseline; None where none does.
        days_since_radiotherapy: since the latest end of radiotherapy; None where none is recorded before the visit.
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


def with_facts(response: Response, facts: Sequence[Facts], criteria: Criteria) -> Response:
    """The response with clinical decline, steroids and missing facts taken into account.

    Clinical decline is progression. A steroid dose above that of baseline is never progression by itself, and leaves
    CR, PR, MR and SD not evaluable. CR with more than physiologic replacement counts as PR. Growth under a dose that
    was lowered since the nadir is named, and not evaluable where the criteria ask for a steady dose.

    Args:
        facts: of the visits of the episode up to this one.
    """
    own = facts[-1]
    response = _under_lowered_dose(response, facts, criteria)
    category, reasons, declined = response.category, list(response.reasons), False
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
    missing = (*response.missing, *own.missing, *criteria.reader_facts.value)
    return replace(response, category=category, reasons=tuple(reasons), missing=missing, by_decline=declined)


def _under_lowered_dose(response: Response, facts: Sequence[Facts], criteria: Criteria) -> Response:
    """Growth since a nadir that was measured under more steroids than now."""
    now = facts[-1].steroid_mg
    before = facts[response.nadir].steroid_mg if response.nadir is not None else None
    if not response.grown or now is None or before is None or now >= before:
        return response
    words = f"dexamethasone was lowered from {before:g} to {now:g} mg a day since the nadir, which may explain growth"
    looks = (*response.looks, Look("steroids", words))
    if not criteria.growth_needs_steady_steroids.value:
        return replace(response, reasons=(*response.reasons, words), looks=looks)
    return replace(response, category=Category.NE, reasons=(f"NE: {words}", *response.reasons), looks=looks)
