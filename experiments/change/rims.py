"""Lesions that enhance in a rim around a necrotic core, between two visits; truth for :mod:`.change_pairs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Floats, Grid
from brats_seg.phantom.objects import Blob, Ellipsoid, Shell, Waves, draw_waves

Mask = NDArray[np.bool_]
Share = NDArray[np.float32]
Moves = Literal["outer", "inner", "both"]
Course = tuple[Blob, ...] | tuple[Shell, ...]

MOVES: tuple[Moves, ...] = ("outer", "inner", "both")
LEAST_RIM = 0.06
"""Rims without gaps are nowhere thinner than this share of the radius: about a millimetre at 30 mm."""
OWN_SHARES = (0.6, 0.4, 0.25, 0.1, 0.0)
"""How much of the hollow's surface is its own and not the outer surface's; the largest is taken that leaves a rim."""
DIRECTIONS = 1500


def outer(lesion: Blob | Shell) -> Blob:
    """What the lesion fills, its core included."""
    if isinstance(lesion, Blob):
        return lesion
    assert isinstance(lesion.outer, Blob)  # as hollowed makes them
    return lesion.outer


def hollowed(
    course: Sequence[Blob],
    steps_mm: Floats,
    *,
    thickness_mm: float,
    off_centre: float,
    irregularity: float,
    gaps: bool,
    rng: np.random.Generator,
) -> tuple[Shell, ...]:
    """Take a core out of a lesion at every visit.

    Args:
        course: the lesion at each visit, core included.
        steps_mm: ``(visits,)`` what the core's equivalent diameter has more at each visit than on average.
        thickness_mm: of the rim, on average.
        off_centre: how far the core lies off the lesion's middle, as a share of the thickness.
        irregularity: of the core's surface.
        gaps: whether the core may break through the rim.
        rng: chance of shape and place.
    """
    own = draw_waves(irregularity, rng, finest=8.0)
    direction = rng.standard_normal(3)
    shift = direction / np.linalg.norm(direction) * (off_centre * thickness_mm)
    mean_radius = float(np.mean([np.cbrt(np.prod(blob.ellipsoid.radii_mm)) for blob in course]))

    def shell(blob: Blob, step: float, part: float, factor: float) -> Shell:
        body = blob.ellipsoid
        radius = np.cbrt(np.prod(body.radii_mm))
        radii = np.array(body.radii_mm) / radius * (mean_radius - thickness_mm + step / 2)
        centre = np.array(body.centre_mm) + factor * shift
        return Shell(blob, Blob(Ellipsoid(centre, radii, body.rotation), _mixed(blob.waves, own, part)))

    for part in OWN_SHARES:
        for factor in (1.0,) if gaps else (1.0, 0.5, 0.0):
            found = tuple(shell(*pair, part, factor) for pair in zip(course, steps_mm, strict=True))
            if gaps or all(_leaves_rim(rim) for rim in found):
                return found
    return found


def shares(lesion: Blob | Shell, grid: Grid, *, supersampling: int = 3) -> tuple[Share, Share]:
    """Share of each voxel that enhances, and that is core.

    Args:
        lesion: a solid one has no core.
        grid: where to sample.
        supersampling: sub-points per voxel side where a border of a rim may pass; two surfaces take twice as long.
    """
    if isinstance(lesion, Blob):
        return lesion.sample_fractions(grid), np.zeros(grid.shape, np.float32)
    core = lesion.inner.sample_fractions(grid, supersampling=supersampling)
    if not _leaves_rim(lesion):
        return lesion.sample_fractions(grid, supersampling=supersampling), core
    whole = lesion.outer.sample_fractions(grid, supersampling=supersampling)
    return np.maximum(whole - core, 0), core  # the same sub-points are counted for both


def label_like(enhancing: Mask, enhancing_share: Share, core_share: Share) -> Mask:
    """The core of a label map whose enhancing part is ``enhancing``: what is left is what lies nearer.

    Args:
        enhancing: ``(X, Y, Z)`` imperfect mask of the rim.
        enhancing_share: true share of the rim in each voxel.
        core_share: true share of the core.
    """
    result = np.zeros_like(enhancing)
    if not (core_share >= 0.5).any():
        return result
    voxels = np.argwhere(enhancing | (core_share > 0))
    low = np.maximum(voxels.min(0) - 2, 0)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, voxels.max(0) + 3, strict=True))
    core, whole = core_share[box] >= 0.5, enhancing_share[box] + core_share[box] >= 0.5
    nearer = ndimage.distance_transform_edt(~core) < ndimage.distance_transform_edt(whole)
    result[box] = nearer & ~enhancing[box]
    return result


def _mixed(first: Waves, second: Waves, share: float) -> Waves:
    return Waves(
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.amplitudes * (1 - share), second.amplitudes * share]),
        np.concatenate([first.phases, second.phases]),
    )


def _leaves_rim(rim: Shell) -> bool:
    """Whether the hollow lies inside the outer surface everywhere."""
    inner = rim.inner
    assert isinstance(inner, Blob)
    directions = np.random.default_rng(0).standard_normal((DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    local = directions * (inner.waves(directions)[:, None] * np.array(inner.ellipsoid.radii_mm))
    surface = local @ inner.ellipsoid.rotation.T + np.array(inner.ellipsoid.centre_mm)
    return bool((outer(rim).relative_radius(surface) < 1 - LEAST_RIM).all())
