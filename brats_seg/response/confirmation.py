"""What later visits confirm or refute.

Progression that needs confirmation is preliminary until a scan far enough after it still meets progression against
the nadir (then the date of progression is the first scan) or does not (refuted: pseudoprogression). A further
progression before that scan waits for it too. After a progression that is confirmed, or needs no confirmation, every
later visit of the episode stays progression. Complete and partial responses are preliminary until they have been kept
long enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from brats_seg.core.words import counted
from brats_seg.response.criteria import ConfirmationReference, ConfirmationRule, Criteria
from brats_seg.response.history import VisitMeasurements
from brats_seg.response.lesion_sums import TOLERANCE_PERCENT, percent_of
from brats_seg.response.responses import Category, Look, Response, Status

_LEVEL = {Category.CR: 2, Category.PR: 1}
_OPEN = -1
"""Level of a progression that is itself not settled yet: it decides about responses around it only later, so that a
status that was settled never changes again."""


def settle(
    readings: Sequence[Response],
    visits: Sequence[VisitMeasurements],
    criteria: Criteria,
    days_since_radiotherapy: Sequence[int | None],
) -> list[Response]:
    """Responses of one episode, in the order of its visits; the first is its baseline.

    Args:
        readings: by visit, clinical facts included.
        days_since_radiotherapy: by visit; None where no end of radiotherapy is known before it.
    """
    answers = list(readings)
    _settle_progression(answers, readings, visits, criteria, days_since_radiotherapy)
    _settle_responses(answers, visits, criteria.confirm_response_days.value)
    return answers


def _settle_progression(
    answers: list[Response],
    readings: Sequence[Response],
    visits: Sequence[VisitMeasurements],
    criteria: Criteria,
    days_since_radiotherapy: Sequence[int | None],
) -> None:
    pending: list[int] = []
    standing: int | None = None
    wait = criteria.confirm_progression_days.value
    for index in range(1, len(readings)):
        day = visits[index].day
        ripe = [i for i in pending if (day - visits[i].day).days >= wait]
        if ripe and _confirms(readings, ripe[0], index, criteria):
            _confirm(answers, readings, visits, pending=pending, by=index)
            standing = ripe[0] if standing is None else standing
            pending = []
            continue
        if ripe and readings[index].category is not Category.NE:
            for i in ripe:
                what = "the decline has passed" if readings[i].by_decline else "pseudoprogression"
                note = f"refuted by the scan of {day}, {counted((day - visits[i].day).days, 'day')} later: {what}"
                answers[i] = _with(answers[i], Status.REFUTED, note)
            pending = [i for i in pending if i not in ripe]
        if standing is not None:
            note = (f"PD: the progression of {visits[standing].day} stands until surgery, radiotherapy or a new "
                    "treatment sets a new baseline")  # fmt: skip
            reasons = (note, *answers[index].reasons)
            answers[index] = replace(
                answers[index], category=Category.PD, status=answers[standing].status, reasons=reasons
            )
        elif readings[index].category is Category.PD:
            reason = _needs_confirmation(criteria, days_since_radiotherapy[index], readings[index])
            if pending and not reason:
                reason = f"waits, as does the progression of {visits[pending[0]].day}, for the scan that confirms it"
            if reason:
                answers[index] = _with(answers[index], Status.PRELIMINARY, reason)
                pending.append(index)
            else:
                standing = index


def _confirms(readings: Sequence[Response], first: int, index: int, criteria: Criteria) -> bool:
    """Whether a scan confirms the progression of an earlier one."""
    one, other = readings[first], readings[index]
    if other.category is not Category.PD:
        return False
    against = criteria.confirm_progression_against.value
    if against is ConfirmationReference.NADIR or not other.grown or one.size is None:
        return True
    change, least = percent_of(other.size, one.size), other.growth_percent
    return change is None or least is None or change >= least - TOLERANCE_PERCENT


def _confirm(
    answers: list[Response],
    readings: Sequence[Response],
    visits: Sequence[VisitMeasurements],
    *,
    pending: Sequence[int],
    by: int,
) -> None:
    """Confirm all pending progressions by one scan."""
    first = pending[0]
    for earlier in pending:
        answers[earlier] = _with(answers[earlier], Status.CONFIRMED, f"confirmed by the scan of {visits[by].day}")
    answers[by] = _with(answers[by], Status.CONFIRMED, f"confirms the progression of {visits[first].day}")
    one, other = readings[first].size, readings[by].size
    if one is not None and other is not None and other < one and readings[by].grown:
        words = f"the scan of {visits[by].day} confirms progression against the nadir, and is smaller than before"
        answers[by] = replace(answers[by], looks=(*answers[by].looks, Look("confirmation", words)))


def _needs_confirmation(criteria: Criteria, days: int | None, reading: Response) -> str:
    """Why a progression has to be confirmed; empty where it has not."""
    rule = criteria.confirm_progression.value
    weeks = criteria.confirm_progression_days.value / 7
    what = "pass" if reading.by_decline else "be pseudoprogression"
    if rule is ConfirmationRule.ALWAYS:
        return f"{criteria.title} confirms every progression by a scan at least {weeks:g} weeks later"
    if rule is ConfirmationRule.EARLY and days is not None and days <= criteria.early_days.value:
        return (
            f"{counted(days, 'day')} after radiotherapy, within {criteria.early_days.value}: may {what}, "
            f"confirm by a scan at least {weeks:g} weeks later"
        )
    return ""


def _settle_responses(answers: list[Response], visits: Sequence[VisitMeasurements], wait: int) -> None:
    levels = [_level(answer) for answer in answers]
    for index, answer in enumerate(answers):
        if answer.category not in _LEVEL:
            continue
        status, note = _kept(index, levels, visits, wait)
        answers[index] = _with(answers[index], status, note)


def _level(answer: Response) -> int | None:
    """2 complete, 1 partial, 0 less; None where the visit says nothing (not evaluable, or a refuted progression)."""
    if answer.category in (Category.NE, Category.BASELINE) or answer.status is Status.REFUTED:
        return None
    if answer.category is Category.PD and answer.status is Status.PRELIMINARY:
        return _OPEN
    return _LEVEL.get(answer.category, 0)


def _kept(
    index: int, levels: Sequence[int | None], visits: Sequence[VisitMeasurements], wait: int
) -> tuple[Status, str]:
    """Whether the response of a visit was kept: since an earlier one, or until a later one, far enough apart."""
    own, day = levels[index] or 0, visits[index].day
    unsettled = Status.PRELIMINARY, "waits until the preliminary progression is settled"
    since, open_between = _kept_since(index, levels, visits, wait)
    if since is not None and not open_between:
        return Status.CONFIRMED, f"kept since {visits[since].day}"
    for later in range(index + 1, len(levels)):
        level, gap = levels[later], (visits[later].day - day).days
        if level == _OPEN:
            return unsettled
        if level is not None and level < own:
            if open_between:
                return unsettled
            return Status.REFUTED, f"not kept: lost at the scan of {visits[later].day}, {counted(gap, 'day')} later"
        if level is not None and gap >= wait:
            return Status.CONFIRMED, f"confirmed by the scan of {visits[later].day}"
    return Status.PRELIMINARY, f"no scan at least {wait / 7:g} weeks later confirms it yet"


def _kept_since(
    index: int, levels: Sequence[int | None], visits: Sequence[VisitMeasurements], wait: int
) -> tuple[int | None, bool]:
    """The visit since which a response was kept for long enough, and whether an open progression lies between."""
    open_between = False
    for earlier in reversed(range(1, index)):
        level = levels[earlier]
        if level == _OPEN:
            open_between = True
        elif level is not None and level < (levels[index] or 0):
            break
        elif level is not None and (visits[index].day - visits[earlier].day).days >= wait:
            return earlier, open_between
    return None, False


def _with(answer: Response, status: Status, note: str) -> Response:
    return replace(answer, status=status, reasons=(*answer.reasons, note))
