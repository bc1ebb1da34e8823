"""The change of an enhancing lesion in a course: what of a label map is the lesion, its core, and another lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from glioma import ET, REGIONS
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.scans import RigidMotion
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.phantom.fields import smooth_noise
from brats_seg.phantom.objects import sphere
from brats_seg.track.boundary_shift.change import LesionChange
from brats_seg.track.course import ChangeRow
from brats_seg.track.lesions import RegionCourse, follow_region
from brats_seg.track.paired import paired_changes
from brats_seg.track.repeatability import Change
from brats_seg.volumetrics.measure import measure_segmentation

GRID = Grid((56, 52, 52), np.array([[1, 0, 0, -27.5], [0, 1, 0, -25.5], [0, 0, 1, -25.5], [0, 0, 0, 1.0]]))
STILL = RigidMotion(np.eye(4), 1.0, 1.0, 0.0, 0.0, 0.0, by="brain")
INNER_MM = 12.0


def visit(name: str, outer_mm: float, seed: int) -> Visit:
    """A rim of enhancement around necrosis, in edema, with a small enhancing lesion beside it."""
    parts = [sphere((-4.2, 0.3, -0.4), size).sample_fractions(GRID) for size in (INNER_MM, outer_mm, outer_mm + 14)]
    necrosis, rim, edema = parts[0], parts[1] - parts[0], parts[2] - parts[1]
    beside = sphere((18.0, 0.0, 0.0), 9.0)
    small = beside.sample_fractions(GRID) * (1 - sum(parts[:2]))
    tissue = 100 + 5 * smooth_noise(GRID.shape, 5.0, np.random.default_rng(0))
    image = ndimage.gaussian_filter(tissue - 8 * edema - 30 * necrosis + 45 * (rim + small), 0.5)
    image += 3 * np.random.default_rng(seed).standard_normal(GRID.shape)
    masks = {3: rim + small >= 0.5, 1: necrosis >= 0.5, 2: edema >= 0.5}
    labels = np.select(list(masks.values()), list(masks), 0).astype(np.uint8)
    segmentation = Segmentation(name, Volume(labels, GRID), DEFAULT_SCHEMA, REGIONS)
    return Visit(
        timepoint=Timepoint(name, {MRSequence.T1CE: Path(f"{name}.nii.gz")}, label=name),
        segmentation=segmentation,
        measurements=measure_segmentation(segmentation),
        record=RunRecord(name, {}),
        images={MRSequence.T1CE: Volume(image.astype(np.float32), GRID)},
    )


@pytest.fixture(scope="module")
def course() -> tuple[list[Visit], RegionCourse]:
    visits = [visit("1", 22.0, 1), visit("2", 23.0, 2)]
    return visits, follow_region(ET, visits, [np.eye(4)] * 2, GRID)


def measured(course: tuple[list[Visit], RegionCourse], **known: dict[str, LesionChange]):
    visits, region = course
    largest = max(region.at(1), key=lambda row: row.volume_ml)
    row = ChangeRow(1, ET.name, largest.lesion, "last", 0, Change(0, 0, 0, 0, False))
    return paired_changes(visits, [STILL, STILL], {ET.name: region}, [row], **known)[largest.lesion, 0, 1]


@pytest.mark.slow
def test_a_rim_with_edema_and_necrosis_is_measured(course) -> None:
    found = measured(course).change
    assert found.trusted, found.reasons
    assert found.change_ml.value == pytest.approx(np.pi / 6000 * (23**3 - 22**3), abs=0.1)
    assert found.first_ml == pytest.approx(np.pi / 6000 * (22**3 - INNER_MM**3), rel=0.05)
    assert found.rim_mm == pytest.approx((22.5 - INNER_MM) / 2, abs=0.7)


@pytest.mark.slow
def test_what_is_known_is_not_measured_again(course) -> None:
    first = measured(course)
    other = LesionChange(None, None, None, None, 0.0, 0.0, reasons=("kept",))
    assert measured(course, known={first.key: other}).change is other
