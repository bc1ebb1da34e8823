"""Whether the visits of a course show one person, by the fine structure of their brains; and which, if they do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from brats_seg.core.scans import RigidMotion
from brats_seg.core.visit import Visit

Aligned = tuple[list[Visit], list[RigidMotion]]
"""Visits, and how each lies to the first of them."""


def strangers_among(visits: Sequence[Visit], motions: Sequence[RigidMotion]) -> dict[int, str]:
    """Visits that do not show the brain of the first one, and why."""
    return {
        index: _unlike(visits[0].label, motion)
        for index, motion in enumerate(motions)
        if index and not motion.is_one_person
    }


def _unlike(other: str, motion: RigidMotion) -> str:
    return (
        f"it does not look like the person of {other}: the fine structure of the two brains agrees by "
        f"{motion.likeness:.2f}, {motion.likeness_needed:g} is the least for one person"
    )


def one_person(
    visits: Sequence[Visit],
    motions: Sequence[RigidMotion],
    strangers: Mapping[int, str],
    *,
    align: Callable[[Sequence[Visit]], Aligned],
) -> tuple[list[Visit], list[RigidMotion], dict[str, str]]:
    """The visits of one person: that of the first visit, unless more visits show one other person.

    Args:
        strangers: what :func:`strangers_among` says of them.
        align: aligns visits to the first of those it is given.

    Returns:
        The visits that are kept, how they lie to the first of them, and why each other one is left out.
    """
    kept = [index for index in range(len(visits)) if index not in strangers]
    left_out = {visits[index].label: why for index, why in strangers.items()}
    if len(strangers) > len(kept):
        others, to_other = align([visits[index] for index in strangers])
        apart = strangers_among(others, to_other)
        same = [index for index in range(len(others)) if index not in apart]
        if len(same) > len(kept):
            names = ", ".join(others[index].label for index in same)
            left_out = {others[index].label: why for index, why in apart.items()}
            left_out |= {
                visits[index].label: f"it looks like the person of {visits[0].label}, and more visits show another"
                for index in kept
            }
            left_out[visits[0].label] = _unlike(names, motions[min(strangers)])
            return [others[index] for index in same], [to_other[index] for index in same], _with_advice(left_out)
    return [visits[index] for index in kept], [motions[index] for index in kept], _with_advice(left_out)


def _with_advice(left_out: Mapping[str, str]) -> dict[str, str]:
    advice = "Look whether the scans of two patients were mixed up; --force compares them all the same."
    return {label: f"{why}. {advice}" for label, why in left_out.items()}


def on_identity(visits: Sequence[Visit], motions: Sequence[RigidMotion], strangers: Mapping[int, str]) -> Iterator[str]:
    """What to say about whether the visits that are compared are of one person."""
    for index, why in strangers.items():
        yield f"{visits[index].label} is compared although {why}"
    pairs = list(zip(visits, motions, strict=True))[1:]
    unknown = [visit.label for visit, motion in pairs if math.isnan(motion.likeness)]
    if unknown:
        names = f"{visits[0].label}, {', '.join(unknown[:-1])}".rstrip(", ") + f" and {unknown[-1]}"
        names = "the visits" if len(unknown) == len(pairs) > 1 else names
        yield f"it could not be checked that {names} show one person: no scans to compare"
