"""Heads that are turned and shifted: what lies where."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume, apply_affine
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence
from experiments.poses.turned import Case, in_slices, resampled, turned_header

GRID = Grid((60, 60, 60), np.diag([-1.0, -1.0, 1.0, 1.0]))
SPOT = (36, 22, 33)


def ball() -> tuple[Study, np.ndarray]:
    """A ball with a bright spot of a few voxels."""
    away = np.linalg.norm(np.indices(GRID.shape) - 30.0, axis=0)
    values = np.where(away <= 20, 10.0, 0.0)
    values[tuple(slice(n - 2, n + 3) for n in SPOT)] = 100.0
    return Study("ball", {MRSequence.FLAIR: Volume(values.astype(np.float32), GRID)}), away <= 20


@pytest.mark.parametrize(("make", "within_mm"), [("header", 0.01), ("resampled", 0.1), ("slices", 0.5)])
def test_what_lies_at_a_place_of_the_study_lies_where_the_pose_puts_it(make: str, within_mm: float) -> None:
    study, brain = ball()
    pose = Case.read(f"{make}:R30").pose("ball", GRID.to_world((30, 30, 30)))
    if make == "header":
        posed = turned_header(study, pose)
    else:
        posed = (resampled if make == "resampled" else in_slices)(study, brain, pose)
    image = posed.images[MRSequence.FLAIR]
    values = np.clip(image.data - 20, 0, None)  # what rings around the spot stays out
    seen = posed.native.to_world(np.array(ndimage.center_of_mass(values)))
    assert apply_affine(pose, seen) == pytest.approx(GRID.to_world(SPOT), abs=within_mm)
    assert posed.seen.to_world((3, 4, 5)) == pytest.approx(apply_affine(pose, posed.native.to_world((3, 4, 5))))


def test_a_case_names_a_turn_or_leaves_it_to_chance() -> None:
    turned = Case.read("scanner:S40+upright")
    assert (turned.kind, turned.angles_deg, turned.told) == ("scanner", (0.0, 0.0, 40.0), "upright")
    drawn = Case.read("header")
    one, other = (drawn.pose(name, np.zeros(3)) for name in ("a", "b"))
    assert np.array_equal(one, drawn.pose("a", np.zeros(3))) and not np.allclose(one, other)
    for wrong in ("turned", "header+upright", "scanner+up"):
        with pytest.raises(argparse.ArgumentTypeError, match="case"):
            Case.read(wrong)
