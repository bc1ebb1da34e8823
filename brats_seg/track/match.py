"""Which lesion is which, over all visits of a patient, from masks that were aligned to one space.

Visits are taken in order of time, and a visit is compared with what is known from those before it; nothing earlier
is ever changed. Identities are therefore stable when a visit is added. Rules:

* Components (26-neighbourhood) that overlap a lesion's last mask belong to it; where nothing overlaps, components
  within the tolerance of alignment do.
* Several components of one lesion are a split: the one with the largest overlap keeps the name, the others are named
  after it (``L1.1``) and stay part of it.
* Several lesions in one component are a merger: the component keeps the name of the lesion with the largest overlap.
  The others wait under their own masks: if the component comes apart again, they get their names back.
* A lesion without component is gone; seen again at its last place, it returns under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Mask

Labels = NDArray[np.int32]

TOLERANCE_MM = 3.0
"""Distance between voxel centres up to which small lesions that no longer overlap are the same: three voxels of
1 mm, above the alignment error and below the distance of separate lesions."""


class Relation(StrEnum):
    """What became of a lesion at a visit."""

    FIRST = "first"
    SAME = "same"
    NEW = "new"
    SPLIT = "split"
    MERGED = "merged"
    GONE = "gone"
    RETURNED = "returned"


@dataclass(frozen=True)
class LesionState:
    """One lesion at one visit; one row of the lesion table through time.

    Attributes:
        lesion: name, for example ``L1``; a part that split off is named after its lesion, ``L1.1``.
        relation: what became of it since the visit before.
        component: number of its component in the visit's label array; 0 where it has none.
        partner: the lesion it merged into or split from; empty otherwise.
        part_of: the lesion whose sum it belongs to; empty for a lesion of its own.
    """

    lesion: str
    relation: Relation
    component: int
    partner: str = ""
    part_of: str = ""


@dataclass(frozen=True, eq=False)
class Matching:
    """Lesion identities of all visits.

    Attributes:
        states: by visit every lesion known by then, in the order in which they were first seen.
        labels: per visit an int32 array with the component numbers of ``states``.
    """

    states: tuple[tuple[LesionState, ...], ...]
    labels: tuple[Labels, ...]


@dataclass
class _Known:
    """A lesion as last seen: flat voxel indices of its own mask, and whether it has a component at present."""

    name: str
    voxels: NDArray[np.intp]
    active: bool = True
    part_of: str = ""
    partner: str = ""
    parts: int = 0


@dataclass
class _Components:
    """Components of one visit and their links to known lesions."""

    labels: Labels
    voxels: dict[int, NDArray[np.intp]]
    overlap: dict[tuple[str, int], float] = field(default_factory=dict)


def match_lesions(masks: Sequence[Mask], spacing_mm: tuple[float, float, float]) -> Matching:
    """Name the lesions of all visits.

    Args:
        masks: one ``(X, Y, Z)`` mask per visit, in order of time, all on one grid.

    Raises:
        InputError: if there is no mask, or the shapes differ.
    """
    if not masks:
        raise InputError("no visit to match lesions in")
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1 or masks[0].ndim != 3:
        raise InputError(
            f"masks of shape {' and '.join(str(shape) for shape in sorted(shapes))} do not share one space. "
            "Align the visits first."
        )
    known: dict[str, _Known] = {}
    states: list[tuple[LesionState, ...]] = []
    labels: list[Labels] = []
    for index, mask in enumerate(masks):
        visit = _components(mask)
        _link(visit, known, spacing_mm)
        relations = _assign(visit, known, first=index == 0)
        states.append(tuple(_state(lesion, *relations[name]) for name, lesion in known.items()))
        labels.append(visit.labels)
    return Matching(tuple(states), tuple(labels))


def _state(lesion: _Known, relation: Relation, component: int) -> LesionState:
    partner = lesion.partner if relation in (Relation.SPLIT, Relation.MERGED) else ""
    return LesionState(lesion.name, relation, component, partner, lesion.part_of)


def _components(mask: Mask) -> _Components:
    """Components numbered from 1, largest first (equal ones by position)."""
    raw, count = ndimage.label(np.asarray(mask) != 0, structure=np.ones((3, 3, 3)))
    flat = raw.ravel()
    where = np.flatnonzero(flat)
    order = np.argsort(flat[where], kind="stable")
    pieces = np.split(where[order], np.cumsum(np.bincount(flat[where], minlength=count + 1)[1:])[:-1]) if count else []
    kept = sorted(pieces, key=lambda piece: (-piece.size, piece[0]))
    labels = np.zeros(raw.shape, np.int32)
    for number, piece in enumerate(kept, start=1):
        labels.ravel()[piece] = number
    return _Components(labels, dict(enumerate(kept, start=1)))


def _link(visit: _Components, known: dict[str, _Known], spacing_mm: Sequence[float]) -> None:
    """Find which lesions and components belong together, and how strongly."""
    flat = visit.labels.ravel()
    for name, lesion in known.items():
        covered, counts = np.unique(flat[lesion.voxels], return_counts=True)
        for component, count in zip(covered.tolist(), counts.tolist(), strict=True):
            if component:
                visit.overlap[name, component] = float(count)
    linked_lesions = {name for name, _ in visit.overlap}
    linked_components = {component for _, component in visit.overlap}
    # Near misses: only between lesions and components that overlap nothing, so that neighbours stay apart.
    for name, lesion in known.items():
        for component, voxels in visit.voxels.items():
            if name in linked_lesions or component in linked_components:
                continue
            gap = _gap_mm(_points(visit, lesion.voxels, spacing_mm), _points(visit, voxels, spacing_mm), TOLERANCE_MM)
            if gap is not None:
                visit.overlap[name, component] = 1.0 / (1.0 + gap)


def _points(visit: _Components, voxels: NDArray[np.intp], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """``(n, 3)`` millimetres in array axes."""
    places = np.stack(np.unravel_index(voxels, visit.labels.shape), axis=1)
    return np.asarray(places * np.asarray(spacing_mm), dtype=np.float64)


def _gap_mm(one: NDArray[np.float64], other: NDArray[np.float64], limit_mm: float) -> float | None:
    """Smallest distance between voxel centres of two sets; None where it is above the limit."""
    apart = np.maximum(one.min(axis=0) - other.max(axis=0), other.min(axis=0) - one.max(axis=0))
    if apart.max() > limit_mm:
        return None
    small, large = sorted((one, other), key=len)
    distances, _ = spatial.cKDTree(large).query(small, distance_upper_bound=limit_mm + 1e-6)
    nearest = float(np.min(distances))
    return nearest if nearest <= limit_mm + 1e-6 else None


def _assign(visit: _Components, known: dict[str, _Known], *, first: bool) -> dict[str, tuple[Relation, int]]:
    """Give every component a name and every known lesion a relation; brings ``known`` up to date."""
    relations: dict[str, tuple[Relation, int]] = {}
    owner: dict[int, str] = {}
    before = {name: lesion.active for name, lesion in known.items()}
    # Lesions with a component at present come before those that are gone or merged; then the larger overlap.
    ranked = sorted(visit.overlap.items(), key=lambda item: (not before[item[0][0]], -item[1], item[0]))
    for (name, component), _ in ranked:
        if component not in owner and name not in owner.values():
            owner[component] = name
            relations[name] = (_relation_of(known[name], visit, component, before), component)
    for component in visit.voxels:
        if component not in owner:
            parents = [(size, name) for (name, other), size in visit.overlap.items() if other == component]
            name = _new_name(known, max(parents)[1] if parents else "")
            owner[component] = name
            relation = Relation.FIRST if first else (Relation.SPLIT if parents else Relation.NEW)
            relations[name] = (relation, component)
    for component, name in owner.items():
        known[name].voxels, known[name].active = visit.voxels[component], True
        if relations[name][0] is not Relation.SPLIT:
            known[name].partner = ""
    _close(visit, known, relations, owner, before)
    return relations


def _relation_of(lesion: _Known, visit: _Components, component: int, before: dict[str, bool]) -> Relation:
    if before[lesion.name]:
        return Relation.SAME
    # It was not seen by itself: it comes out of a component it had merged into, or it returns.
    parent = lesion.partner
    if parent and before.get(parent) and (parent, component) in visit.overlap:
        return Relation.SPLIT
    return Relation.RETURNED


def _close(
    visit: _Components,
    known: dict[str, _Known],
    relations: dict[str, tuple[Relation, int]],
    owner: dict[int, str],
    before: dict[str, bool],
) -> None:
    """Lesions without a component of their own: merged into the one that covers them, or gone."""
    for name, lesion in known.items():
        if name in relations:
            continue
        covering = [(size, component) for (other, component), size in visit.overlap.items() if other == name]
        if covering and (before[name] or lesion.partner):
            lesion.partner = owner[max(covering)[1]]
            relations[name] = (Relation.MERGED, 0)
        else:
            lesion.partner = ""
            relations[name] = (Relation.GONE, 0)
        lesion.active = False


def _new_name(known: dict[str, _Known], parent: str) -> str:
    nothing = np.zeros(0, np.intp)
    if parent:
        root = known[parent].part_of or parent
        known[root].parts += 1
        name = f"{root}.{known[root].parts}"
        known[name] = _Known(name, nothing, part_of=root, partner=parent)
        return name
    name = f"L{1 + sum(not lesion.part_of for lesion in known.values())}"
    known[name] = _Known(name, nothing)
    return name
