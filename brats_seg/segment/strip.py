"""From scans of a head as they come, with skull and each on its own grid, to the brain alone on one grid.

The brain is found in the sequences that are best for it and carried to the others by rigid registration. Every
sequence is interpolated once, onto voxels of 1 mm along the reference's own axes, or, where the head lies far turned,
along those of an upright head: what comes out is a study like those of BraTS, mostly in the patient's own pose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Mask, Singles, Volume, grid_between
from brats_seg.core.scans import RigidMotion, Study
from brats_seg.core.study import MRSequence
from brats_seg.imaging.boxes import bounding_box, cropped, widened
from brats_seg.imaging.brain import brain_mask, solid
from brats_seg.imaging.consistency import Consistency, check_consistency
from brats_seg.imaging.placing import coincides
from brats_seg.imaging.register import MIN_OVERLAP, RegistrationConfig, check_registration, register_rigid, resample
from brats_seg.imaging.upright import find_turn
from brats_seg.models.brain import BrainNetworks
from brats_seg.models.hd_bet import HdBetNetworks
from brats_seg.segment.brain import check_brain, find_brain
from brats_seg.segment.rim import tumour_at_rim

EXTRACTED_FROM = (MRSequence.T1CE, MRSequence.T1)
"""Sequences the networks know, the preferred one first: the reference mostly, so that nothing has to be carried."""

OTHERWISE = (MRSequence.FLAIR, MRSequence.T2)

THICKER = 1.5
"""A sequence is passed over for one whose thickest side of a voxel is so many times shorter. Of two that are about as
thin, the mean of both outlines is taken: on the native study it misses 0.8 ml in one piece of the gyri at the vertex in
T1, that of T1CE alone 5.6 ml (``experiments/brain``)."""

SPACING_MM = 1.0
SPACING_TOLERANCE = 0.01
"""Voxels within 1 % of a millimetre stay as they are: resampling would cost more than it mends."""

NEAR_BRAIN_MM = 8.0
"""Registration compares the brain and so much around it: jaw, neck and skin move between sequences."""

DOUBTFUL_INFORMATION = 0.15
"""Nats below which the search begins again from more starts. Measured on scans with skull: 0.25 to 0.43 where they lie
on one another, 0.04 to 0.06 where the search ended elsewhere."""

MARGIN_MM = 12.0
"""Kept around the brain."""

COARSE_MM = 4.0
"""Voxels on which it is found how the head is turned."""

MISPLACED = frozenset({"other", "mirrored", "shifted"})
"""What a registered sequence is refused for, of the kinds of :class:`~brats_seg.imaging.consistency.Inconsistency`."""


@dataclass(frozen=True, eq=False)
class StrippedStudy:
    """A study without skull, and the way back.

    Attributes:
        study: every sequence on one grid, 0 outside the brain.
        brain: ``(X, Y, Z)`` of that grid.
        native: grid of the reference as it was scanned.
        source: how the brain was found, in words.
        networks: which ones found it, as plain values; empty where the mask was there already.
        registrations: by sequence; the reference's world to that of the sequence.
        rim_ml: tumour beside the outline that was added to it.
        turned_deg: by how much the head lay turned and was laid upright; 0 where it stays in its own axes.
    """

    study: Study
    brain: Mask
    native: Grid
    source: str
    networks: Mapping[str, Any]
    registrations: Mapping[MRSequence, RigidMotion]
    consistency: Consistency
    rim_ml: float
    turned_deg: float
    decisions: tuple[str, ...]

    @property
    def grid(self) -> Grid:
        """The one grid."""
        return self.study.reference_volume.grid

    @property
    def brain_ml(self) -> float:
        """Volume of the brain."""
        return float(self.brain.sum()) * self.grid.voxel_ml

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``; matrices are with the registrations."""
        return {
            "source": self.source,
            "networks": dict(self.networks),
            "brain_ml": round(self.brain_ml, 1),
            "rim_ml": round(self.rim_ml, 2),
            "turned_deg": round(self.turned_deg, 1),
        }


@dataclass(frozen=True, eq=False)
class _Outline:
    """A brain mask as it came: shares in 0..1 by the sequence in whose space they lie, the one to start from first."""

    shares: Mapping[MRSequence, Volume]
    words: str
    networks: Mapping[str, Any]

    @property
    def space(self) -> MRSequence:
        """Where to start from."""
        return next(iter(self.shares))


def strip(
    study: Study,
    heads: Mapping[MRSequence, str],
    networks: Callable[[], BrainNetworks | HdBetNetworks],
    *,
    mask: Volume | None = None,
) -> StrippedStudy:
    """Lay the sequences on one another and take everything but the brain away.

    Args:
        study: one to four sequences, with skull, each on its own grid.
        networks: opens what finds a brain; called only where no mask is there.
        mask: of the brain, in the space of one of the sequences.

    Raises:
        InputError: if no brain was found, what was found is none, or sequences could not be laid on one another.
    """
    reference = study.reference_volume
    decisions: list[str] = []
    outline = _outline(study, heads, networks, mask, decisions)
    registrations = _register(study, heads, outline, decisions)
    grid, turned_deg = _laid(reference, outline, registrations, decisions)
    brain = solid(_joined(outline, grid, registrations) > 0.5)
    grid, brain = _cropped(grid, brain)
    images = {sequence: _onto(grid, sequence, study.images[sequence], registrations) for sequence in study.present}
    added = tumour_at_rim(brain, images)
    rim_ml = float(added.sum()) * grid.voxel_ml
    if rim_ml > 0:
        brain = brain | added
        decisions.append(f"{rim_ml:.1f} ml beside the brain's outline look like tumour and were kept")
    stripped = {s: v.with_data(np.where(brain, v.data, np.float32(0))) for s, v in images.items()}
    consistency = check_consistency(stripped, brain)
    for entry in consistency.found:
        if entry.kind in MISPLACED:
            raise InputError(f"after registration {entry.text}" if registrations else entry.text)
    return StrippedStudy(
        study=replace(study, images=stripped),
        brain=brain,
        native=reference.grid,
        source=outline.words,
        networks=outline.networks,
        registrations=registrations,
        consistency=consistency,
        rim_ml=rim_ml,
        turned_deg=turned_deg,
        decisions=tuple(decisions),
    )


def _outline(
    study: Study,
    heads: Mapping[MRSequence, str],
    networks: Callable[[], BrainNetworks | HdBetNetworks],
    mask: Volume | None,
    decisions: list[str],
) -> _Outline:
    """The mask that was given, of a sequence that is stripped, or found by the networks; the first there is."""
    if mask is not None:
        space = next((s for s in study.present if study.images[s].grid.same_as(mask.grid)), study.reference_sequence)
        given = solid(mask.data != 0)
        check_brain(given, mask.grid)
        shares = mask.with_data(given.astype(np.float32))
        return _Outline({space: shares}, f"the mask given, in the space of {space.title}", {})
    stripped = [sequence for sequence in study.present if sequence not in heads]
    if stripped:
        space = study.reference_sequence if study.reference_sequence in stripped else stripped[0]
        image = study.images[space]
        shares = image.with_data(brain_mask({space: image}).astype(np.float32))
        return _Outline({space: shares}, f"{space.title}, which is skull-stripped", {})
    opened = networks()
    refused = []
    for together in _by_fitness(study):
        outlines: dict[MRSequence, Volume] = {}
        for sequence in together:
            try:
                found = find_brain(study.images[sequence], opened)
                check_brain(found.mask, found.probability.grid, largest_share=found.largest_share)
            except InputError as error:
                refused.append(f"{sequence.title}: {error}")
                continue
            outlines[sequence] = found.probability
        if outlines:
            decisions += [f"not taken for brain extraction: {words}" for words in refused]
            names = " and ".join(sequence.title for sequence in outlines)
            return _Outline(outlines, f"{names} by {opened.version}", opened.to_dict())
    raise InputError(
        f"no brain was found in {study.id}. {'. '.join(refused)}. Are the voxel sizes right? "
        "If so, give a mask of your own with --brain-mask FILE."
    )


def _joined(outline: _Outline, grid: Grid, registrations: Mapping[MRSequence, RigidMotion]) -> Singles:
    """The mean of the outlines on one grid, each where its scan reaches."""
    total, seen = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for sequence, shares in outline.shares.items():
        total += _onto(grid, sequence, shares, registrations).data
        if len(outline.shares) > 1:
            everywhere = shares.with_data(np.ones(shares.grid.shape, np.float32))
            seen += _onto(grid, sequence, everywhere, registrations).data
    total /= np.maximum(seen, 1)
    return total


def _onto(grid: Grid, sequence: MRSequence, volume: Volume, registrations: Mapping[MRSequence, RigidMotion]) -> Volume:
    """What lies in the space of a sequence, on a grid in that of the reference; 0 beyond its field of view."""
    matrix = registrations[sequence].matrix if sequence in registrations else None
    return resample(volume, grid, matrix=matrix, fill=0.0)


def _by_fitness(study: Study) -> list[list[MRSequence]]:
    """Sequences to find the brain in together, the best first: those the networks know, the thin before the thick."""
    known = [s for s in EXTRACTED_FROM if s in study.images]
    if not known:
        return [[s] for s in OTHERWISE if s in study.images]
    thickness = {s: max(study.images[s].grid.spacing_mm) for s in known}
    thick = [s for s in known if thickness[s] >= THICKER * min(thickness.values())]
    return [[s for s in known if s not in thick], *([s] for s in thick)]


def _register(
    study: Study, heads: Mapping[MRSequence, str], outline: _Outline, decisions: list[str]
) -> dict[MRSequence, RigidMotion]:
    """Every sequence to the reference: first that of the brain, by heads, then the others by what lies near it."""
    reference = study.reference_volume
    registrations: dict[MRSequence, RigidMotion] = {}
    near: Mask | None = None
    order = sorted(study.present, key=lambda s: s is not outline.space)
    for sequence in order:
        volume = study.images[sequence]
        is_there = sequence not in heads and coincides(volume.grid, reference.grid)
        if sequence is not study.reference_sequence and not is_there:
            found = lay_on(volume, reference, near)
            alike = (sequence in heads) == (study.reference_sequence in heads)
            check_registration(
                found,
                sequence,
                study.reference_sequence,
                volume.grid,
                reference.grid,
                min_overlap=MIN_OVERLAP if alike else 0.0,
            )
            registrations[sequence] = found
            decisions.append(
                f"{sequence.title} ({volume.grid.describe()}) laid on {study.reference_sequence.title}: moved "
                f"{found.translation_mm:.1f} mm, turned {found.rotation_deg:.1f} degrees, mutual information "
                f"{found.mutual_information:.2f} nats"
            )
        if sequence is outline.space:
            near = _grown(_onto(reference.grid, sequence, outline.shares[sequence], registrations))
    return registrations


def lay_on(volume: Volume, reference: Volume, near: Mask | None) -> RigidMotion:
    """The rigid motion that lays one scan on another of the same head; searched for from more starts where in doubt.

    Args:
        near: ``(X, Y, Z)`` of the reference; what is compared, None for all.

    Raises:
        InputError: if a scan holds no head.
    """
    found = register_rigid(volume, reference, fixed_mask=near, trust_header=True)
    if found.mutual_information >= DOUBTFUL_INFORMATION:
        return found
    again = RegistrationConfig(is_thorough=True)
    second = register_rigid(volume, reference, config=again, fixed_mask=near, trust_header=True)
    return max((found, second), key=lambda record: record.mutual_information)


def _grown(shares: Volume) -> Mask:
    """What is brain or lies within :data:`NEAR_BRAIN_MM` of it."""
    brain: Mask = shares.data > 0.5
    if not brain.any():
        raise InputError("the brain mask lies outside the scans. Is it of this visit?")
    return widened(brain, shares.grid.spacing_mm, NEAR_BRAIN_MM)


def _laid(
    reference: Volume, outline: _Outline, registrations: Mapping[MRSequence, RigidMotion], decisions: list[str]
) -> tuple[Grid, float]:
    """Voxels of :data:`SPACING_MM` along the reference's axes, or those of an upright head where it lies far turned;
    and the degrees between them."""
    own, coarse = (_grid_along(reference.grid, spacing_mm) for spacing_mm in (SPACING_MM, COARSE_MM))
    brain = _joined(outline, coarse, registrations) > 0.5
    if not brain.any():
        return own, 0.0  # refused where the grid is cropped to the brain
    values = np.maximum(resample(reference, coarse, fill=0.0).data, np.float32(1e-3))
    turn = find_turn(Volume(np.where(brain, values, np.float32(0)), coarse))
    if turn.doubt:
        decisions.append(f"the head may lie turned by {turn.degrees:.0f} degrees, but {turn.doubt}: left as it lies")
    if turn.doubt or not turn.is_far:
        return own, 0.0
    decisions.append(f"the head lies turned by {turn.degrees:.0f} degrees: laid upright by a template of the brain")
    axes = coarse.affine[:3, :3] / coarse.spacing_mm @ turn.rotation.T
    places = coarse.to_world(np.argwhere(brain)) @ axes
    low, high = places.min(axis=0) - MARGIN_MM - COARSE_MM, places.max(axis=0) + MARGIN_MM + COARSE_MM
    level, upright = grid_between(low, high, SPACING_MM), np.eye(4)
    upright[:3, :3] = axes
    return Grid(level.shape, upright @ level.affine), turn.degrees


def _grid_along(reference: Grid, spacing_mm: float) -> Grid:
    """Voxels of a size along the reference's axes, stored right, anterior, superior; same field of view."""
    ras = Volume(np.broadcast_to(np.zeros((), np.uint8), reference.shape), reference).to_ras().grid
    spacing = np.array(ras.spacing_mm)
    if np.abs(spacing / spacing_mm - 1).max() <= SPACING_TOLERANCE:
        return ras
    step = spacing_mm / spacing
    scale = np.diag([*step, 1.0])
    scale[:3, 3] = (step - 1) / 2
    x, y, z = np.maximum(np.ceil(np.array(ras.extent_mm) / spacing_mm - SPACING_TOLERANCE), 1).astype(int).tolist()
    return Grid((x, y, z), ras.affine @ scale)


def _cropped(grid: Grid, brain: Mask) -> tuple[Grid, Mask]:
    """Both cut to the brain's box and its margin."""
    box = bounding_box(brain, margin=round(MARGIN_MM / SPACING_MM))
    if box is None:
        raise InputError("nothing of the brain is left on the reference. Do the scans show the same part of the head?")
    part = cropped(Volume(brain, grid), box)
    return part.grid, part.data
