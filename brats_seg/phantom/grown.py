"""Lesions that grow in tissue: fields made once per patient, cut to the volumes a visit's script asks for.

A lesion is a set of fields that rise outwards (arrival times of a growing front, :mod:`growth`), one each for core,
edema, necrosis and solid tumour without enhancement. A larger tumour is the same field cut at a later time, so a
lesion keeps its shape and place from visit to visit. The push (:mod:`flow`) depends on the visit's volumes; fields
live in the brain before the push and move with the tissue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Floats, Grid, box_corners
from brats_seg.phantom.acquire import Body, Texture, TumourFractions
from brats_seg.phantom.anatomy import Anatomy, Person, make_anatomy
from brats_seg.phantom.contrast import Tissue
from brats_seg.phantom.fields import Field, Span
from brats_seg.phantom.flow import BrainSpace, Flow, Mass
from brats_seg.phantom.kinds import PROFILES, LesionScript, LesionState, Profile, ball_radius_mm
from brats_seg.phantom.objects import Blob, points_of
from brats_seg.phantom.partition import FREE, Level, Partition

_PARTS = 5
NECROSIS, SOFT, ENHANCING, EDEMA, CAVITY = range(1, _PARTS + 1)
CORE_PARTS = (NECROSIS, SOFT, ENHANCING)
VOLUME_NAMES = ("WT", "TC", "ET", "NCR", "ED", "RC")
"""Regions and structures a volume is known of; ``RC`` is a resection cavity and no part of the tumour."""
RIM = 0.85
"""Necrosis keeps within this share of the way from where a core began to its border."""
MOST_LESIONS = 40
"""More have no number left."""


def part_number(lesion: int, part: int) -> int:
    """The number of a part of a lesion in a :class:`~brats_seg.phantom.partition.Partition`."""
    return lesion * _PARTS + part


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields in the brain before any push.

    Attributes:
        grid: of ``core``, ``necrosis`` and ``soft``.
        core: about 1 on the border of the largest core, falling inwards; of a body that does not invade, what its
            radius is multiplied by.
        necrosis: falls towards what dies first.
        soft: falls towards what does not enhance.
        edema_grid: of ``edema``.
        edema: about 1 on the border of the largest edema, falling inwards.
    """

    grid: Grid
    core: Field
    necrosis: Field
    soft: Field
    edema_grid: Grid
    edema: Field


@dataclass(frozen=True, eq=False)
class GrownLesion:
    """One lesion with all it will ever be.

    Attributes:
        centre_mm: where it began, RAS+, before any push.
        inwards: unit vector from the dura into the brain (meningioma), else any direction.
        residual: what is left, or comes back, at the wall of a resection cavity; None if there is never a cavity.
        body: a mass that does not invade (meningioma), where it lies after the push; else None.
    """

    script: LesionScript
    centre_mm: Floats
    inwards: Floats
    fields: Fields
    residual: Blob | None
    body: Blob | None

    @property
    def profile(self) -> Profile:
        """Of its kind."""
        return PROFILES[self.script.kind]

    def mass(self, state: LesionState) -> Mass | None:
        """What pushes at a visit; None where too little does to be seen."""
        pushed = self.profile.pushed * state.core_ml
        if pushed < 0.1:
            return None
        radius = ball_radius_mm(state.core_ml)
        centre = self.centre_mm
        if self.body is not None:
            centre = centre + 0.45 * radius * self.inwards
        if state.cavity_ml > 0 and self.residual is not None:
            centre = np.array(self.residual.ellipsoid.centre_mm)
        x, y, z = (float(value) for value in centre)
        return Mass((x, y, z), 0.85 * radius, pushed)


@dataclass(frozen=True, eq=False)
class GrownScene:
    """One visit before it is scanned.

    Attributes:
        anatomy: after the push, cavities filled with CSF.
        tumour: shares of each voxel.
        tissues: the same by what it looks like.
        cavity: share of each voxel that is a resection cavity; None if there is none.
        flow: the push; None if nothing pushes.
    """

    anatomy: Anatomy
    partition: Partition
    tumour: TumourFractions
    tissues: Mapping[Tissue, Field]
    cavity: Field | None
    flow: Flow | None

    def body(self, texture: Texture) -> Body:
        """What is scanned."""
        return Body(self.anatomy, self.tumour, texture, self.tissues, self.cavity)


@dataclass(frozen=True, eq=False)
class GrownTumour:
    """All lesions of a patient, and the space they push in."""

    person: Person
    space: BrainSpace
    lesions: tuple[GrownLesion, ...]

    def scene(self, states: Sequence[LesionState], grid: Grid) -> GrownScene:
        """The patient with these volumes, on a grid of about 1 mm. No chance is involved.

        Raises:
            InputError: if they do not fit into the brain.
        """
        masses = [lesion.mass(state) for lesion, state in zip(self.lesions, states, strict=True)]
        pushing = [mass for mass in masses if mass is not None]
        flow = self.space.push(pushing) if pushing else None
        anatomy = make_anatomy(self.person, grid, origin_mm=None if flow is None else flow.origin_mm)
        partition = Partition(grid, anatomy.brain)
        depth = np.zeros(grid.shape, np.float32)
        cutters = [
            _Cutter(number, lesion, state, grid, flow)
            for number, (lesion, state) in enumerate(zip(self.lesions, states, strict=True))
            if state.core_ml + state.cavity_ml + state.edema_ml > 0
        ]
        for cutter in cutters:
            cutter.claim_cavity(partition)
        for cutter in cutters:
            cutter.claim_core(partition)
        for cutter in cutters:
            cutter.claim_edema(partition, anatomy, depth)
        return self._finished(anatomy, partition, depth, flow)

    def _finished(self, anatomy: Anatomy, partition: Partition, depth: Field, flow: Flow | None) -> GrownScene:
        numbers = range(len(self.lesions))

        def share(part: int, among: Sequence[int] = numbers) -> Field:
            return partition.fractions(*(part_number(number, part) for number in among))

        necrosis, soft, enhancing, edema = (share(part) for part in (NECROSIS, SOFT, ENHANCING, EDEMA))
        bloody = [n for n in numbers if self.lesions[n].profile.vascular > 0]
        tissues = {Tissue.NECROSIS: necrosis, Tissue.CORE: soft, Tissue.EDEMA: edema, Tissue.ENHANCING: enhancing}
        if bloody:
            vessels = np.zeros_like(enhancing)
            for number in bloody:
                vessels += np.float32(self.lesions[number].profile.vascular) * share(ENHANCING, [number])
            tissues |= {Tissue.VESSEL: vessels, Tissue.ENHANCING: enhancing - vessels}
        cavity = None
        if partition.volume_ml(*(part_number(n, CAVITY) for n in numbers)) > 0:
            cavity = share(CAVITY)
            anatomy = _with_cavity(anatomy, cavity)
        tumour = TumourFractions(anatomy.grid, necrosis + soft, edema, enhancing, depth)
        return GrownScene(anatomy, partition, tumour, tissues, cavity, flow)


def _with_cavity(anatomy: Anatomy, cavity: Field) -> Anatomy:
    """Tissue replaced by fluid; the fluid counts as ventricle, for it has no vessels."""
    rest = 1 - cavity
    return replace(
        anatomy,
        csf=anatomy.csf * rest + cavity,
        ventricle=anatomy.ventricle * rest + cavity,
        grey=anatomy.grey * rest,
        white=anatomy.white * rest,
    )


class _Cutter:
    """One lesion's fields in the box it needs at one visit."""

    def __init__(self, number: int, lesion: GrownLesion, state: LesionState, grid: Grid, flow: Flow | None) -> None:
        self.number, self.lesion, self.state = number, lesion, state
        whole_ml = state.core_ml + state.cavity_ml + state.edema_ml
        self.box = _box(grid, lesion.centre_mm, 2.4 * ball_radius_mm(whole_ml) + 12)
        self.points = points_of(grid, self.box)
        self.origin = self.points if flow is None else flow.origin_mm(self.points)

    def _sampled(self, values: Field, grid: Grid | None = None, *, inner: Span | None = None) -> Field:
        """A field of the lesion in the box, or in an inner box of it."""
        origin = self.origin if inner is None else self.origin[inner]
        voxels = np.moveaxis((grid or self.lesion.fields.grid).to_voxel(origin), -1, 0)
        result: Field = ndimage.map_coordinates(values, voxels, output=np.float32, order=1, mode="nearest")
        return result

    def _level(self, values: Field, inner: Span | None = None) -> Level:
        if inner is None:
            return Level(values, self.box)
        x, y, z = (slice(b.start + i.start, b.start + i.stop) for b, i in zip(self.box, inner, strict=True))
        return Level(values, (x, y, z))

    def _inner(self, partition: Partition, part: int) -> Span:
        """Where a part lies in the box, and the voxel around it that interpolation needs."""
        spans = zip(partition.span(part), self.box, strict=True)
        x, y, z = (slice(max(s.start, b.start) - b.start, min(s.stop, b.stop) - b.start) for s, b in spans)
        return x, y, z

    def _part(self, part: int) -> int:
        return part_number(self.number, part)

    def claim_cavity(self, partition: Partition) -> None:
        """The cavity takes the place of the core that was."""
        if self.state.cavity_ml > 0:
            fields = self.lesion.fields
            smooth = ndimage.gaussian_filter(self._sampled(fields.core) + self._sampled(fields.necrosis), 1.5)
            partition.claim(self._part(CAVITY), self._level(smooth), self.state.cavity_ml)

    def claim_core(self, partition: Partition) -> None:
        """The core, then of it what does not enhance."""
        state, lesion = self.state, self.lesion
        if state.core_ml == 0:
            return
        if state.cavity_ml > 0 and lesion.residual is not None:
            core = lesion.residual.relative_radius(self.origin).astype(np.float32)
        elif lesion.body is not None:  # a dome on the dura, with a thin tail along it
            core = (lesion.body.relative_radius(self.points) * self._sampled(lesion.fields.core)).astype(np.float32)
        else:
            core = self._sampled(lesion.fields.core)
        border = partition.claim(self._part(ENHANCING), self._level(core), state.core_ml)
        # living tumour is left all around: what lies close behind the border dies last
        inside = self._part(ENHANCING)
        inner = self._inner(partition, inside)
        core = core[inner]
        necrosis = core + self._sampled(lesion.fields.necrosis, inner=inner) + 4 * np.maximum(core / border - RIM, 0)
        dark_ml = state.core_ml * (1 - state.enhancing_share)
        soft_ml = dark_ml * lesion.profile.soft
        partition.claim(self._part(NECROSIS), self._level(necrosis, inner), dark_ml - soft_ml, within=inside)
        soft_ml = min(soft_ml, partition.volume_ml(inside))
        soft = self._level(self._sampled(lesion.fields.soft, inner=inner), inner)
        partition.claim(self._part(SOFT), soft, soft_ml, within=inside)

    def claim_edema(self, partition: Partition, anatomy: Anatomy, depth: Field) -> None:
        """The edema, which stops at CSF and spares cortex; writes how deep in it each voxel lies."""
        if self.state.edema_ml == 0:
            return
        values = self._sampled(self.lesion.fields.edema, self.lesion.fields.edema_grid)
        values += 0.9 * ndimage.gaussian_filter(anatomy.csf[self.box], 0.8)
        values += 0.3 * ndimage.gaussian_filter(anatomy.grey[self.box], 0.8)
        threshold = partition.claim(self._part(EDEMA), self._level(values), self.state.edema_ml, within=FREE)
        here = depth[self.box]
        # inside the lowest value there is only core, so depth falls from 1 at its border, not at its middle
        lowest = float(np.quantile(values[values <= threshold], 0.3))
        np.maximum(here, np.clip((threshold - values) / max(threshold - lowest, 1e-6), 0, 1), out=here)


def _box(grid: Grid, centre_mm: Floats, half_mm: float) -> Span:
    corners = grid.to_voxel(box_corners(centre_mm - half_mm, centre_mm + half_mm))
    first = np.clip(np.floor(corners.min(0)).astype(int), 0, np.array(grid.shape) - 3)
    stop = np.clip(np.ceil(corners.max(0)).astype(int) + 1, first + 3, grid.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return x, y, z


def volumes_ml(scene: GrownScene, lesions: Iterable[int]) -> dict[str, float]:
    """Exact volumes of some lesions together, by :data:`VOLUME_NAMES`."""
    numbers = list(lesions)

    def of(*parts: int) -> float:
        return scene.partition.volume_ml(*(part_number(number, part) for number in numbers for part in parts))

    return {
        "WT": of(*CORE_PARTS, EDEMA),
        "TC": of(*CORE_PARTS),
        "ET": of(ENHANCING),
        "NCR": of(NECROSIS, SOFT),
        "ED": of(EDEMA),
        "RC": of(CAVITY),
    }
