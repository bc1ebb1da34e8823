"""Response assessment: one state machine for every set of criteria.

For each episode (:mod:`.clinical`), compartment and measure it reads every visit's numbers (:mod:`.visit_assessment`),
takes the clinical facts into account (:mod:`.clinical`) and settles what later visits confirm or refute
(:mod:`.confirmation`); compartments are then combined into the patient's overall category. All thresholds are rows of
:mod:`.criteria`; changing a row changes the answer and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise

from brats_seg.core.tables import Calendar
from brats_seg.response.clinical import Facts, episodes_of, facts_at, with_facts
from brats_seg.response.confirmation import settle
from brats_seg.response.criteria import Compartment, Criteria, DiseaseRule
from brats_seg.response.history import ClinicalStatus, EventKind, PatientHistory
from brats_seg.response.lesion_sums import CompartmentHistory, percent_of
from brats_seg.response.responses import (
    BEST_FIRST,
    GUESS,
    OVERALL,
    UNDATED,
    Category,
    Disease,
    Episode,
    Measure,
    Response,
    Responses,
    Status,
)
from brats_seg.response.visit_assessment import read_visit


def assess(
    history: PatientHistory, criteria: Criteria, *, disease: Disease | None = None, reason: str = "given"
) -> Responses:
    """Judge every visit of one patient.

    Args:
        disease: which compartments are judged; None lets the criteria choose for each episode.
    """

    def progressed(episode: Episode) -> bool:
        chosen = (_judged(history, criteria, episode, disease),)
        answers = (_answers(history, criteria, chosen, measure)[OVERALL] for measure in Measure)
        return any(
            answer.category is Category.PD and answer.status is not Status.REFUTED
            for found in answers
            for answer in found[episode.baseline + 1 : episode.last + 1]
        )

    found = episodes_of(history, criteria, progressed)
    episodes = tuple(_judged(history, criteria, episode, disease, reason) for episode in found)
    tables = {measure: _answers(history, criteria, episodes, measure) for measure in Measure}
    rows = tuple(
        replace(_spoken(answers[index], history, index), criteria=criteria.label, compartment=name, measure=measure)
        for index in range(len(history.visits))
        for measure in Measure
        for name, answers in tables[measure].items()
    )
    responses = Responses(history.patient, criteria, episodes, rows)
    notes = (*_notes(history, criteria, episodes, disease), *_rebased(history, responses))
    shown = tuple(replace(episode, why=history.spoken(episode.why)) for episode in episodes)
    return replace(responses, episodes=shown, notes=tuple(history.spoken(note) for note in notes))


def _judged(
    history: PatientHistory, criteria: Criteria, episode: Episode, disease: Disease | None, given: str = ""
) -> Episode:
    chosen, reason = (disease, given) if disease is not None else _default_disease(history, criteria, episode)
    visit = history.visits[episode.baseline]
    return replace(
        episode,
        visit=visit.visit,
        day=visit.day,
        when=history.say(visit.day),
        disease=chosen,
        disease_reason=reason,
    )


def _default_disease(history: PatientHistory, criteria: Criteria, episode: Episode) -> tuple[Disease, str]:
    """By the criteria, or by whether anything enhanced from the first visit to the last of the episode."""
    rule = criteria.disease.value
    if rule is not DiseaseRule.BY_COURSE:
        chosen = Disease.ENHANCING if rule is DiseaseRule.ENHANCING else Disease.NON_ENHANCING
        return chosen, f"{criteria.title} judges {rule.value}"
    for visit in history.visits[: episode.last + 1]:
        if enhancing := visit.of(Compartment.ENHANCING):
            return Disease.ENHANCING, f"chosen: lesion {enhancing[0].lesion} enhances at {visit.visit}"
    until = history.visits[episode.last].visit
    hidden = [v.visit for v in history.visits[: episode.last + 1] if Compartment.ENHANCING in v.not_assessable]
    seen = f"nothing enhances up to {until}" if len(hidden) <= episode.last else ""
    unseen = f"enhancement is not assessable at {', '.join(hidden)}" if hidden else ""
    why = ", and ".join(filter(None, (seen, unseen)))
    advice = "pass --disease enhancing if the tumour enhanced before treatment"
    return Disease.NON_ENHANCING, f"{GUESS}: {why}; {advice}"


def _answers(
    history: PatientHistory,
    criteria: Criteria,
    episodes: Sequence[Episode],
    measure: Measure,
) -> dict[str, list[Response]]:
    """Answers of every visit by compartment and overall."""
    before = Response(Category.NE, reasons=("before baseline",))
    table = {name: [before] * len(history.visits) for name in (*(c.value for c in Compartment), OVERALL)}
    for number, episode in enumerate(episodes):
        found = {
            compartment: _judge(history, criteria, episodes, number, compartment=compartment, measure=measure)
            for compartment in episode.disease.compartments
        }
        length = episode.last - episode.baseline + 1
        unjudged = Response(Category.NE, reasons=(f"not judged in {episode.disease} disease",))
        columns = {compartment.value: found.get(compartment, [unjudged] * length) for compartment in Compartment}
        columns[OVERALL] = [combine({name: answers[i] for name, answers in found.items()}) for i in range(length)]
        if episode.disease_reason.startswith(GUESS):
            unknown = f"whether the tumour enhances (disease {episode.disease} is a guess)"
            columns[OVERALL] = [replace(answer, missing=(unknown, *answer.missing)) for answer in columns[OVERALL]]
        for name, answers in columns.items():
            first = answers[0]
            if first.category is Category.BASELINE:
                note = f"disease {episode.disease} ({episode.disease_reason})"
                first = replace(first, reasons=(*first.reasons, note))
            if episode.judged_before:
                old = table[name][episode.baseline]
                first = replace(old, reasons=(*old.reasons, f"also the baseline from here on: {episode.why}"))
            table[name][episode.baseline : episode.last + 1] = [first, *answers[1:]]
    return table


def _judge(
    history: PatientHistory,
    criteria: Criteria,
    episodes: Sequence[Episode],
    number: int,
    *,
    compartment: Compartment,
    measure: Measure,
) -> list[Response]:
    """Answers of the visits of one episode in one compartment and measure."""
    episode = episodes[number]
    visits = history.visits[episode.baseline : episode.last + 1]
    facts = _facts(history, episodes, number)
    course = CompartmentHistory(
        criteria,
        compartment,
        measure,
        visits,
        earlier=history.visits[: episode.baseline],
        set_aside=frozenset(index for index, fact in enumerate(facts) if fact.raised),
        watch_enhancing=episode.disease is Disease.NON_ENHANCING,
        watch_flair=episode.disease is Disease.ENHANCING,
    )
    readings = [_baseline_reading(course, episode)]
    for index in range(1, len(visits)):
        reading = read_visit(course, index)
        measured = course.is_measured(index)
        readings.append(with_facts(reading, facts[: index + 1], criteria) if measured else reading)
    settled = settle(readings, visits, criteria, [fact.days_since_radiotherapy for fact in facts])
    return [replace(settled[0], missing=facts[0].missing), *settled[1:]]


def _facts(history: PatientHistory, episodes: Sequence[Episode], number: int) -> list[Facts]:
    """Facts at every visit of an episode; its last visit takes what was recorded until the next treatment."""
    episode = episodes[number]
    visits = history.visits[episode.baseline : episode.last + 1]
    following = episodes[number + 1].cause if number + 1 < len(episodes) else None
    facts = []
    for index, visit in enumerate(visits):
        until = following.day if following is not None and index == len(visits) - 1 else None
        until = until if until is not None and until > visit.day else None
        facts.append(facts_at(history, day=visit.day, baseline=visits[0].day, since=episode.since, until=until))
    return facts


def _baseline_reading(course: CompartmentHistory, episode: Episode) -> Response:
    unseen = course.visits[0].not_assessable.get(course.compartment)
    if unseen is None and course.is_unread(0, course.compartment):
        unseen = course.gaps(0)[0]
    targets = ", ".join(course.targets) or (f"none ({unseen})" if unseen else "no measurable disease")
    value = course.sum_at(0)
    shown = f", {course.measure.words} {value:g} {course.measure.unit}" if value is not None and course.targets else ""
    reasons = [f"baseline: {episode.why}", f"targets: {targets}{shown}"]
    thresholds = course.criteria.rows()
    reasons += [f"changed row {name}: {thresholds[name].value}" for name in course.criteria.changed]
    return Response(Category.BASELINE, reasons=tuple(reasons))


def _notes(
    history: PatientHistory,
    criteria: Criteria,
    episodes: Sequence[Episode],
    disease: Disease | None,
) -> list[str]:
    """What was decided about the whole course, and what no visit shows."""
    notes = []
    if history.calendar is Calendar.ORDER:
        order = ", ".join(visit.visit for visit in history.visits)
        notes.append(f"the visits have no dates: they are taken in the order {order}, and nothing is confirmed by time")
    skipped = history.visits[: episodes[0].baseline]
    if skipped:
        names = ", ".join(visit.visit for visit in skipped)
        notes.append(f"not judged, because before the baseline: {names}")
    rule = criteria.disease.value
    own = {DiseaseRule.ENHANCING: Disease.ENHANCING, DiseaseRule.NON_ENHANCING: Disease.NON_ENHANCING}
    if disease is not None and rule in own and disease is not own[rule]:
        notes.append(f"{criteria.title} judges {rule.value}; percentages of {disease} disease are not part of it")
    judged = {compartment for episode in episodes for compartment in episode.disease.compartments}
    seen = {lesion.compartment for visit in history.visits for lesion in visit.lesions}
    if seen and not seen & judged:
        notes.append(f"no {', '.join(sorted(judged))} lesion is listed at any visit, and those alone are judged")
    if criteria.changed:
        notes.append(f"{criteria.title}: not the published criteria, changed in {', '.join(criteria.changed)}")
    notes += _unjudged_decline(history, episodes)
    return notes


def _unjudged_decline(history: PatientHistory, episodes: Sequence[Episode]) -> list[str]:
    """Records of a clinical decline that belong to no judged visit."""
    last = history.visits[-1].day
    notes = []
    for event in history.events:
        if event.status is not ClinicalStatus.WORSE:
            continue
        if event.day > last and event is history.last_before(EventKind.CLINICAL_STATUS, date.max):
            notes.append(f"reader needed: clinical decline of {event.day}, after the last scan")
        for number, episode in enumerate(episodes):
            start = history.visits[episode.baseline].day
            alone = episode.last == episode.baseline and number + 1 < len(episodes)
            following = episodes[number + 1].since if alone else date.min
            if start < event.day <= max(episode.since, following) and not (number and episode.judged_before):
                notes.append(f"clinical decline of {event.day} comes before a treatment and after no judged scan")
    return list(dict.fromkeys(notes))


def _rebased(history: PatientHistory, responses: Responses) -> list[str]:
    """Baselines that a further treatment set without progression or surgery before, and the growth in all.

    Rows for the cycles of one treatment do that, and slow growth is then never seen.
    """
    found = []
    for number, (before, now) in enumerate(pairwise(responses.episodes)):
        if now.cause is None or now.cause.kind is not EventKind.TREATMENT_START:
            continue
        earlier = [event for event in history.events if event.day < now.cause.day]
        operated = any(event.kind is EventKind.SURGERY and event.day >= before.since for event in earlier)
        explained = operated or any(responses.progression(measure, number) for measure in Measure)
        if not explained and any(event.kind is EventKind.TREATMENT_START for event in earlier):
            found.append((before, now))
    if not found:
        return []
    names = ", ".join(history.visits[now.baseline].visit for _, now in found)
    compartment = responses.disease.compartments[0]
    first = found[0][0].baseline
    course = CompartmentHistory(responses.criteria, compartment, Measure.PLANAR, history.visits[first:])
    growth = []
    for measure in Measure:
        course = replace(course, measure=measure)
        percent = percent_of(course.sum_at(len(course.visits) - 1), course.sum_at(0))
        growth += [] if percent is None else [f"{percent:+.0f} % by {measure.words}"]
    since = f" Since {history.visits[first].visit}: {', '.join(growth)}." if growth else ""
    return [
        f"reader needed: a further treatment set a new baseline ({names}) without progression or surgery before it. "
        f"If its rows are cycles of one treatment, keep the first alone.{since}"
    ]


def combine(answers: Mapping[Compartment, Response]) -> Response:
    """The overall answer from the compartments that are judged.

    RANO 2.0 for mixed tumours (Wen 2023): PD in either is PD; PR or MR with SD is PR or MR; CR with SD, MR or PR is SD,
    MR or PR; PR with MR, which it leaves open, is PR. A compartment that cannot be judged leaves only PD certain; one
    that never held anything does not count.
    """
    missing = tuple(dict.fromkeys(item for answer in answers.values() for item in answer.missing))
    looks = tuple(dict.fromkeys(item for answer in answers.values() for item in answer.looks))
    counted = {name: answer for name, answer in answers.items() if not answer.absent} or dict(answers)
    if len(counted) == 1:
        (only,) = counted.values()
        return replace(only, percent_from_baseline=None, percent_from_nadir=None, missing=missing, looks=looks)
    category = _combined_category([answer.category for answer in counted.values()])
    deciding = {name: answer for name, answer in counted.items() if answer.category is category}
    reasons = [", ".join(f"{name} {answer.category}" for name, answer in counted.items()) + f": overall {category}"]
    reasons += [f"{name}: {reason}" for name, answer in deciding.items() for reason in answer.reasons]
    return Response(category, _combined_status(tuple(deciding.values())), None, None, tuple(reasons), missing, looks)


def _combined_category(categories: Sequence[Category]) -> Category:
    present = set(categories)
    if len(present) == 1 or Category.PD in present:
        return Category.PD if Category.PD in present else categories[0]
    if Category.NE in present or Category.BASELINE in present:
        return Category.NE
    rest = present - {Category.CR}
    return next(category for category in BEST_FIRST if category in rest)


def _combined_status(deciding: Sequence[Response]) -> Status:
    """For PD the surest of the deciding compartments, for a response the least sure."""
    statuses = [answer.status for answer in deciding]
    surest_first = (Status.NONE, Status.CONFIRMED, Status.PRELIMINARY, Status.REFUTED)
    ranked = sorted(statuses, key=surest_first.index)
    if deciding[0].category is Category.PD:
        return ranked[0]
    return ranked[-1]


def _spoken(answer: Response, history: PatientHistory, index: int) -> Response:
    """The answer of a visit with whose it is, in the words the visits were dated in."""
    visit = history.visits[index]
    missing = (*answer.missing, *((UNDATED,) if history.calendar is Calendar.ORDER else ()))
    return replace(
        answer,
        reasons=tuple(history.spoken(reason) for reason in answer.reasons),
        missing=tuple(dict.fromkeys(history.spoken(item) for item in missing)),
        looks=tuple(replace(look, words=history.spoken(look.words)) for look in answer.looks),
        patient=history.patient,
        visit=visit.visit,
        day=visit.day,
        calendar=history.calendar,
    )
