"""Which visit is the baseline, and which events set a new one.

An episode is a run of visits judged against one baseline. Conventions of the criteria (RANO 2.0: Wen 2023; the older
criteria leave it mostly open and follow the same rules here): newly diagnosed, the first MRI after radiotherapy;
recurrent, the MRI before the new treatment; surgery changes the tumour itself, so the first MRI after it starts anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from brats_seg.longitudinal.criteria import Criteria
from brats_seg.longitudinal.history import EventKind, PatientHistory


@dataclass(frozen=True)
class Episode:
    """Visits judged against one baseline.

    Attributes:
        baseline: index of the baseline visit.
        last: index of the last visit judged in this episode.
        why: how the baseline was chosen, in words.
        cause: the event that set it; None where the first visit was taken for want of an event.
        judged_before: whether the baseline visit is also the last visit of the episode before (the scan before a
            new treatment), whose category it keeps.
    """

    baseline: int
    last: int
    why: str
    cause: EventKind | None = None
    judged_before: bool = False


def episodes_of(history: PatientHistory, criteria: Criteria) -> tuple[Episode, ...]:
    """Episodes in order of time; empty if no visit qualifies as a baseline.

    Args:
        history: visits and events.
        criteria: for the usual window of the baseline scan, which is only mentioned and never refuses a scan.
    """
    days = [visit.day for visit in history.visits]
    first = _first_episode(history, criteria, days)
    if first is None:
        return ()
    episodes = [first]
    for event in history.events:
        current = episodes[-1]
        following = _episode_set_by(event.kind, event.day, days, current, criteria)
        if following is None or following.baseline <= current.baseline:
            continue
        end = following.baseline if following.judged_before else following.baseline - 1
        episodes[-1] = replace(current, last=end)
        episodes.append(following)
    return tuple(episodes)


def _first_episode(history: PatientHistory, criteria: Criteria, days: Sequence[date]) -> Episode | None:
    last = len(days) - 1
    for day in history.days_of(EventKind.BASELINE)[:1]:
        return Episode(days.index(day), last, "marked as baseline in the clinical table", EventKind.BASELINE)
    for day in history.days_of(EventKind.RADIOTHERAPY_END)[:1]:
        return _after_radiotherapy(day, days, criteria)
    for day in history.days_of(EventKind.TREATMENT_START)[:1]:
        index = _last_until(days, day)
        if index is not None:
            return Episode(index, last, f"last scan before the treatment of {day}", EventKind.TREATMENT_START)
        return Episode(0, last, f"first visit; no scan before the treatment of {day}")
    return Episode(0, last, "first visit, for want of radiotherapy_end, treatment_start or baseline before it")


def _episode_set_by(
    kind: EventKind, day: date, days: Sequence[date], current: Episode, criteria: Criteria
) -> Episode | None:
    last = len(days) - 1
    if kind is EventKind.BASELINE:
        return Episode(days.index(day), last, "marked as baseline in the clinical table", kind)
    if kind is EventKind.SURGERY:
        index = _first_after(days, day)
        return None if index is None else Episode(index, last, f"first scan after the surgery of {day}", kind)
    if kind is EventKind.TREATMENT_START:
        index = _last_until(days, day)
        why = f"last scan before the treatment of {day}"
        return None if index is None else Episode(index, last, why, kind, judged_before=True)
    if kind is EventKind.RADIOTHERAPY_END and current.cause is EventKind.SURGERY:
        return _after_radiotherapy(day, days, criteria)
    return None


def _after_radiotherapy(day: date, days: Sequence[date], criteria: Criteria) -> Episode | None:
    index = _first_after(days, day)
    if index is None:
        return None
    gap = (days[index] - day).days
    start, stop = criteria.baseline_from_days.value, criteria.baseline_to_days.value
    usual = "" if start <= gap <= stop else f", outside the usual {start} to {stop} days"
    why = f"first scan after radiotherapy, {gap} days after its end on {day}{usual}"
    return Episode(index, len(days) - 1, why, EventKind.RADIOTHERAPY_END)


def _first_after(days: Sequence[date], day: date) -> int | None:
    return next((index for index, visit in enumerate(days) if visit > day), None)


def _last_until(days: Sequence[date], day: date) -> int | None:
    fitting = [index for index, visit in enumerate(days) if visit <= day]
    return fitting[-1] if fitting else None
