"""Generators for property tests: grids of any orientation, spacing and obliquity."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brats_seg.core.grid import Grid

ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)
]
"""All 48 orientations of a three-dimensional array, such as ``RAS``."""


def affine_of(
    orientation: str,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Affine whose array axes point along ``orientation``, tilted afterwards."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(orientation):
        world = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[world, axis] = spacing_mm[axis] * (1 if code in "RAS" else -1)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = origin_mm
    return affine


@st.composite
def grids(draw: st.DrawFn, *, min_side: int = 4, max_side: int = 24, max_tilt_deg: float = 20.0) -> Grid:
    """Valid grids: any orientation, 0.5 to 6 mm spacing, tilted by up to ``max_tilt_deg``."""
    side = st.integers(min_side, max_side)
    spacing = st.floats(0.5, 6.0).map(lambda v: round(v, 3))
    angle = st.floats(-max_tilt_deg, max_tilt_deg)
    origin = st.floats(-200, 200)
    affine = affine_of(
        draw(st.sampled_from(ORIENTATIONS)),
        (draw(spacing), draw(spacing), draw(spacing)),
        (draw(origin), draw(origin), draw(origin)),
        (draw(angle), draw(angle), draw(angle)),
    )
    return Grid((draw(side), draw(side), draw(side)), affine)
