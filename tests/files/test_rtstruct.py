"""Contours for planning systems: read back by plastimatch with the volumes they have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from test_dicom_seg import MAKER, errors_of, needed, series_of

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.visit import Segmentation
from brats_seg.files.dicom_reference import reference_of, save
from brats_seg.files.rtstruct import rtstruct_of
from brats_seg.models.card import regions_of

TURNED = nib.eulerangles.euler2mat(0.3, -0.1, 0.2)
SMALL, LARGE = (42, 46, 40), (66, 70, 62)
GEOMETRIES = {
    "axial": ("LPS", SMALL, (1.0, 1.0, 1.0), np.eye(3)),
    "axial, reversed, thick": ("LPI", LARGE, (0.9, 0.9, 5.5), np.eye(3)),
    "sagittal": ("PIL", LARGE, (1.0, 1.0, 1.0), np.eye(3)),  # plastimatch rounds a few voxels of its surface away
    "oblique, anisotropic": ("LPS", SMALL, (0.9, 1.1, 3.5), TURNED),
    "oblique sagittal": ("PSR", SMALL, (1.0, 1.0, 1.0), TURNED),
}


def grid_of(name: str) -> Grid:
    orientation, sides_mm, spacing, turn = GEOMETRIES[name]
    affine = np.eye(4)
    for axis, (code, step) in enumerate(zip(orientation, spacing, strict=True)):
        world = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[:3, axis] = turn[:, world] * (step if code in "RAS" else -step)
    affine[:3, 3] = (31.5, -70.25, 12.0)
    shape = tuple(round(side / step) for side, step in zip(sides_mm, spacing, strict=True))
    return Grid(shape, affine)


def rings(grid: Grid) -> Segmentation:
    """A necrotic core in a rim of enhancement in edema, as shells around the middle, and a speck of enhancement."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    distance = np.linalg.norm(grid.to_world(places) - grid.to_world((np.array(grid.shape) - 1) / 2), axis=-1)
    labels = np.zeros(grid.shape, np.uint8)
    for share, number in ((0.42, 2), (0.24, 3), (0.14, 1)):
        labels[distance < share * min(grid.extent_mm)] = number
    labels[3:6, 4:6, 2:4] = 3
    return Segmentation("case", Volume(labels, grid), SCHEMAS["brats2023"], regions_of("glioma"))


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_volumes_read_back_within_two_percent(tmp_path: Path, name: str) -> None:
    segmentation = rings(grid_of(name))
    scan = Volume(np.random.default_rng(1).integers(0, 4000, segmentation.labels.data.shape), segmentation.labels.grid)
    reference = reference_of(series_of(scan, tmp_path / "in"))
    save(rtstruct_of(segmentation, reference, MAKER), tmp_path / "rt.dcm")
    assert errors_of(tmp_path / "rt.dcm") == []
    command = [needed("plastimatch"), "convert", "--input", tmp_path / "rt.dcm", "--referenced-ct", tmp_path / "in"]
    subprocess.run(
        [*command, "--output-prefix", tmp_path / "out", "--prefix-format", "nrrd"], check=True, capture_output=True
    )
    for region in segmentation.regions:
        found = SimpleITK.ReadImage(str(tmp_path / "out" / f"{region.title}.nrrd"))
        voxels = int((SimpleITK.GetArrayFromImage(found) > 0).sum())
        assert voxels == pytest.approx(int(segmentation.region_mask(region).sum()), rel=0.02)


def test_contours_point_at_their_images_and_lie_in_their_planes(tmp_path: Path) -> None:
    segmentation = rings(grid_of("oblique, anisotropic"))
    scan = Volume(np.random.default_rng(1).integers(0, 4000, segmentation.labels.data.shape), segmentation.labels.grid)
    reference = reference_of(series_of(scan, tmp_path / "in"))
    save(rtstruct_of(segmentation, reference, MAKER), tmp_path / "rt.dcm")
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, (tmp_path / "in").iterdir())}
    made = pydicom.dcmread(tmp_path / "rt.dcm")
    assert made.PatientID == "PAT-170017"
    assert [roi.ROIName for roi in made.StructureSetROISequence] == [region.title for region in segmentation.regions]
    for roi in made.ROIContourSequence:
        for contour in roi.ContourSequence:
            image = images[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            cosines = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
            points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(image.ImagePositionPatient, float)
            assert np.abs(points @ np.cross(*cosines)).max() < 1e-3
