"""Which visit is the baseline, and which events set a new one.

An episode is a run of visits judged against one baseline. Conventions of the criteria (RANO 2.0: Wen 2023; the older
criteria leave it mostly open and follow the same rules here): newly diagnosed, the first MRI after radiotherapy;
recurrent, the MRI before the new treatment; surgery changes the tumour itself, so the first MRI after it starts anew.
Radiotherapy that is itself judged, against a marked baseline or an earlier radiotherapy, starts anew only after a
progression. Events count in the order of their days; visits before the first baseline are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from brats_seg.core.words import counted
from brats_seg.response.criteria import Criteria
from brats_seg.response.history import ClinicalEvent, EventKind, PatientHistory

SETS_BASELINE = (EventKind.BASELINE, EventKind.RADIOTHERAPY_END, EventKind.SURGERY, EventKind.TREATMENT_START)


@dataclass(frozen=True)
class Episode:
    """Visits judged against one baseline.

    Attributes:
        baseline: index of the baseline visit.
        last: index of the last visit judged in this episode.
        why: how the baseline was chosen, in words.
        since: day from which a clinical decline belongs to this episode: of its baseline or its treatment.
        cause: the event that set it; None where the first visit was taken for want of an event.
        judged_before: whether the baseline visit is also the last visit of the episode before (the scan before a
            new treatment), whose category it keeps.
    """

    baseline: int
    last: int
    why: str
    since: date
    cause: ClinicalEvent | None = None
    judged_before: bool = False


def episodes_of(
    history: PatientHistory, criteria: Criteria, progressed: Callable[[Episode], bool]
) -> tuple[Episode, ...]:
    """Episodes in order of time; at least one.

    Args:
        history: visits and events.
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


def rebased_without_reason(
    history: PatientHistory, episodes: Sequence[Episode], progressed: Sequence[bool]
) -> tuple[tuple[Episode, Episode], ...]:
    """Neighbouring episodes of which a further treatment opened the second, without progression or surgery before it.

    Rows for the cycles of one treatment do that, and slow growth is then never seen.

    Args:
        history: for the events before.
        episodes: in order of time.
        progressed: by episode, whether progression was found in it.
    """
    found = []
    for number in range(1, len(episodes)):
        before, now = episodes[number - 1], episodes[number]
        if now.cause is None or now.cause.kind is not EventKind.TREATMENT_START or progressed[number - 1]:
            continue
        since = [event for event in history.events if event.day < now.cause.day]
        operated = any(event.kind is EventKind.SURGERY and event.day >= before.since for event in since)
        if not operated and any(event.kind is EventKind.TREATMENT_START for event in since):
            found.append((before, now))
    return tuple(found)
