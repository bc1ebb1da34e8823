"""Small made-up results: ellipsoids in an ellipsoid head, measured plainly, on any grid."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from glioma import ET, REGIONS, WT
from scipy import ndimage

from brats_seg.core.grid import Volume, apply_affine
from brats_seg.core.labels import DEFAULT_SCHEMA, LabelSchema
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.core.visit import Diameters, Lesion, Measurements, RegionVolume, RunRecord, Segmentation, Visit

CARD = {
    "name": "unit-test net",
    "version": "0.3.1",
    "sha256": "abcdef0123456789" * 4,
    "trained_on": "30 BraTS studies",
    "accuracy": {"WT": 0.83, "TC": 0.64, "ET": 0.52},
    "licence": "Apache-2.0",
}


@cache
def world_of(shape, affine):
    """Places of a grid's voxels in mm ``(X, Y, Z, 3)``."""
    return apply_affine(np.array(affine), np.stack(np.indices(shape), axis=-1))


def places(grid):
    return world_of(grid.shape, tuple(map(tuple, grid.affine)))


def ellipsoid(grid, centre_mm, radii_mm):
    """Mask of an ellipsoid with axes along the world's."""
    return (((places(grid) - centre_mm) / radii_mm) ** 2).sum(axis=-1) <= 1


def grid_volume(shape=(64, 80, 56), spacing_mm=(2.0, 2.0, 2.0)):
    """An empty RAS volume centred on the origin."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    return Volume.from_affine(np.zeros(shape, np.uint8), affine)


def make_result(
    *,
    study_id="study-7",
    base=None,
    lesions=(((22.0, 10.0, 6.0), (18.0, 15.0, 12.0)),),
    missing=(),
    schema: LabelSchema = DEFAULT_SCHEMA,
    record=None,
    touches_border=False,
) -> Visit:
    """A result whose lesions are shells: edema around an enhancing rim around necrosis."""
    base = base or grid_volume()
    grid = base.grid
    head = ellipsoid(grid, (0.0, 0.0, 0.0), (55.0, 70.0, 48.0))
    masks = {region: np.zeros(grid.shape, bool) for region in REGIONS}
    necrosis = np.zeros(grid.shape, bool)
    for centre, radii in lesions:
        for share, region in zip((1.0, 0.7, 0.7), REGIONS, strict=True):
            masks[region] |= ellipsoid(grid, centre, np.multiply(radii, share)) & head
        necrosis |= ellipsoid(grid, centre, np.multiply(radii, 0.4))
    masks[ET] &= ~necrosis
    labels = base.with_data(REGIONS.compose(masks, schema))
    segmentation = Segmentation(study_id, labels, schema, REGIONS, missing=tuple(missing))
    return Visit(
        Timepoint(study_id, {}),
        segmentation,
        plain_measurements(segmentation, touches_border=touches_border),
        record or plain_record(study_id, missing),
        images=_images(head, masks, base, missing),
    )


def _images(head, masks, base, missing):
    """Contrasts with a gradient from left to right and bright lesions, so that a flip shows."""
    x = places(base.grid)[..., 0]
    images = {}
    for number, sequence in enumerate(SEQUENCES):
        if sequence in missing:
            continue
        values = head * (200 + x + 30 * number) + 100.0 * masks[WT] + 80.0 * masks[ET]
        images[sequence] = base.with_data(values.astype(np.float32))
    return images


def plain_record(study_id="study-7", missing=()):
    return RunRecord(
        study_id,
        versions={"brats_seg": "0.1.0", "python": "3.11"},
        model={"name": "unit-test net", "version": "0.3.1"},
        device="cpu",
        engine="openvino",
        inputs={s.value: {"sha256": "0123456789abcdef" * 4} for s in SEQUENCES if s not in missing},
        timings_s={"read": 0.5, "network": 1.25},
        peak_memory_mib=1234.0,
        decisions=("results are written on the grid of T1CE",),
    )


def plain_measurements(segmentation, *, touches_border=False):
    rows, lesions = [], []
    grid = segmentation.labels.grid
    for name in ("WT", "TC", "ET"):
        mask = segmentation.region_mask(REGIONS[name])
        volume = float(mask.sum() * grid.voxel_ml)
        components, count = ndimage.label(mask, np.ones((3, 3, 3)))
        note = (
            "estimate: not assessable without T1CE" if MRSequence.T1CE in segmentation.missing and name != "WT" else ""
        )
        rows.append(
            RegionVolume(name, volume, volume * 1.02, volume * 0.9, volume * 1.1, 0.9, count, touches_border, note)
        )
        lesions += _lesions(name, components, count, grid, touches_border)
    for structure in segmentation.schema.structures:
        if structure.name != "ET":
            volume = float(
                segmentation.schema.structure_mask(segmentation.labels.data, structure).sum() * grid.voxel_ml
            )
            rows.append(RegionVolume(structure.name, volume, None, None, None, None, 1, touches_border))
    return Measurements(segmentation.study_id, tuple(rows), tuple(lesions), grid.spacing_mm)


def _lesions(name, components, count, grid, touches_border):
    found = [_lesion(name, np.argwhere(components == n + 1), grid, touches_border) for n in range(count)]
    found.sort(key=lambda lesion: -lesion.volume_ml)
    return [replace(lesion, number=n + 1) for n, lesion in enumerate(found)]


def _lesion(name, voxels, grid, touches_border):
    """Diameters along the array axes that run closest to right and anterior, on the middle superior slice."""
    worlds = [world for world, _ in grid.axis_order]
    axis, across, along = worlds.index(2), worlds.index(0), worlds.index(1)
    low, high = voxels.min(0), voxels.max(0)
    middle = (low + high) / 2
    upwards = grid.axis_order[axis][1] > 0  # of two middle slices the upper one, however they are stored
    middle[axis] = np.ceil(middle[axis]) if upwards else np.floor(middle[axis])
    ends = {}
    for direction in (across, along):
        pair = np.stack([middle, middle])
        pair[:, direction] = low[direction] - 0.5, high[direction] + 0.5
        ends[direction] = grid.to_world(pair)
    lengths = {d: float(np.linalg.norm(e[1] - e[0])) for d, e in ends.items()}
    first, second = sorted(lengths, key=lambda d: -lengths[d])
    diameters = Diameters(
        lengths[first],
        lengths[second],
        "axial",
        axis,
        int(middle[axis]),
        tuple(map(tuple, ends[first])),
        tuple(map(tuple, ends[second])),
        int(high[axis] - low[axis] + 1),
    )
    return Lesion(
        name,
        1,
        len(voxels) * grid.voxel_ml,
        tuple(grid.to_world(voxels.mean(0))),
        (tuple(low.tolist()), tuple(high.tolist())),
        diameters,
        min(lengths.values()) >= 10,
        touches_border,
    )


def stored_as(result: Visit, axes, flips) -> Visit:
    """The same patient with array axes in another order and some stored the other way round, measured anew."""

    def turn(volume):
        volume = volume.permute(axes)
        for axis in flips:
            volume = volume.flip(axis)
        return volume

    segmentation = replace(result.segmentation, labels=turn(result.segmentation.labels))
    images = {sequence: turn(image) for sequence, image in result.images.items()}
    return replace(result, segmentation=segmentation, images=images, measurements=plain_measurements(segmentation))
