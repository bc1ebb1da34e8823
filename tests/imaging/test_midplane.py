"""The midplane of a brain and the side lesions lie on: the same however the scan is stored and the head lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from glioma import REGIONS
from heads import head_grid, points_of

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.visit import Segmentation
from brats_seg.imaging.midplane import find_midplane
from brats_seg.volumetrics.measure import measure_segmentation

RADII_MM = (44.0, 56.0, 42.0)
LESIONS_MM = {"left": (-18.0, -9.0, 6.0), "right": (18.0, -9.0, 6.0), "both": (3.0, -25.0, 6.0)}
"""Centres in the head's own axes; each has a radius of 9 mm."""


def turn(about_s_deg: float, about_a_deg: float) -> np.ndarray:
    """Rotation of a head in its scanner."""
    s, a = np.radians([about_s_deg, about_a_deg])
    about_s = np.array([[np.cos(s), -np.sin(s), 0], [np.sin(s), np.cos(s), 0], [0, 0, 1]])
    about_a = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return about_s @ about_a


def head(grid: Grid, rotation: np.ndarray, shift_mm: tuple[float, float, float]) -> tuple[np.ndarray, Volume]:
    """Brain, flatter at the back and with a cut off base, and a label map of three lesions."""
    points = (points_of(grid) - shift_mm) @ rotation  # the head's own axes
    brain = ((points / RADII_MM) ** 2).sum(-1) < 1
    brain &= (points[..., 1] > -50) & (points[..., 2] > -28)
    labels = np.zeros(grid.shape, np.uint8)
    for centre in LESIONS_MM.values():
        labels[((points - centre) ** 2).sum(-1) < 81] = 3
    return brain, Volume(labels, grid)


@pytest.mark.parametrize(
    ("code", "spacing_mm", "tilt_deg", "turned"),
    [
        ("RAS", (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (0.0, 0.0)),
        ("LPS", (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (0.0, 0.0)),
        ("SAL", (1.5, 2.0, 2.5), (12.0, -8.0, 20.0), (0.0, 0.0)),
        ("ASR", (1.0, 2.0, 5.0), (0.0, 0.0, 0.0), (14.0, 0.0)),
        ("PIR", (2.0, 3.0, 2.0), (5.0, 5.0, -15.0), (-18.0, 9.0)),
        ("LAS", (2.0, 2.0, 6.0), (0.0, 0.0, 0.0), (20.0, -12.0)),
    ],
)
def test_sides_are_the_patients_own(
    code: str,
    spacing_mm: tuple[float, float, float],
    tilt_deg: tuple[float, float, float],
    turned: tuple[float, float],
) -> None:
    grid = head_grid(code, spacing_mm=spacing_mm, tilt_deg=tilt_deg, field_mm=(130.0, 130.0, 120.0))
    shift_mm = (-7.0, 4.0, 3.0)
    rotation = turn(*turned)
    brain, labels = head(grid, rotation, shift_mm)
    midplane = find_midplane(brain, grid)
    assert midplane is not None
    assert np.degrees(np.arccos(min(np.dot(midplane.normal, rotation[:, 0]), 1.0))) < 4
    assert abs(float(midplane.right_of_mm(np.array(shift_mm)))) < 2
    segmentation = Segmentation("head", labels, SCHEMAS["brats2023"], REGIONS, midplane=midplane)
    lesions = measure_segmentation(segmentation).lesions_of("ET")
    found = {}
    for lesion in lesions:
        own = (np.array(lesion.centroid_mm) - shift_mm) @ rotation
        found[min(LESIONS_MM, key=lambda side: float(np.linalg.norm(own - LESIONS_MM[side])))] = lesion.side
    assert found == {side: side for side in LESIONS_MM}


def test_without_a_whole_brain_no_side_is_invented() -> None:
    grid = head_grid("RAS", spacing_mm=(2.0, 2.0, 2.0))
    brain, labels = head(grid, np.eye(3), (0.0, 0.0, 0.0))
    half = brain & (points_of(grid)[..., 0] > -4)
    assert find_midplane(half, grid) is None
    assert find_midplane(np.zeros_like(brain), grid) is None
    segmentation = Segmentation("head", labels, SCHEMAS["brats2023"], REGIONS, midplane=find_midplane(half, grid))
    assert {lesion.side for lesion in measure_segmentation(segmentation).lesions} == {""}


def test_a_mirrored_patient_has_mirrored_sides() -> None:
    grid = head_grid("LPS", spacing_mm=(2.0, 2.0, 2.0))
    brain, labels = head(grid, np.eye(3), (0.0, 0.0, 0.0))
    sides = []
    for flip in (False, True):
        data = labels.data[::-1] if flip else labels.data
        mirrored = Segmentation("head", replace(labels, data=data), SCHEMAS["brats2023"], REGIONS)
        midplane = find_midplane(brain[::-1] if flip else brain, grid)
        lesions = measure_segmentation(replace(mirrored, midplane=midplane)).lesions_of("ET")
        sides.append(sorted((round(lesion.centroid_mm[0]), lesion.side) for lesion in lesions))
    assert [side for _, side in sides[0]] == [side for _, side in sides[1]] == ["left", "both", "right"]
