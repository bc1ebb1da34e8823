"""Measure what brain extraction cuts off tumours: ``python -m experiments.brain.dura STUDIES... -o OUT.tsv``.

Each of STUDIES is a folder of skull-stripped studies with label maps (or one study): real brains, around which the
phantoms' skull is put. Without any, the heads are phantoms, meningiomas and gliomas in turn, ``--first`` to
``--first + --count - 1``. In both, no fluid lies between bone and tumour that reaches the surface of the brain, and the
sequences lie on one another, so registration is left out. T2 plays no part. Written are, for each head: Dice of the
mask; the largest piece of brain that is missing after opening by 3 mm; tumour within 5 mm of the surface; how much of
the tumour is lost without what is added at the rim, and with it; of the latter, the largest piece, and how far from the
mask the farthest voxel lies; what was added.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import RigidMotion, Study
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.files.find import find_studies
from brats_seg.files.load import load_study
from brats_seg.files.nifti import read_label_map
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.brain import brain_mask
from brats_seg.models.brain import open_brain_networks
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.course import PhantomConfig, make_visit
from brats_seg.phantom.grids import HEAD_REACH_MM, grid_around
from brats_seg.phantom.script import PatientKind, draw_course
from brats_seg.phantom.skull import add_skull, draw_skull
from brats_seg.segment import strip as stripping
from experiments.brain.masks import missing_ml, on_scan

Mask = NDArray[np.bool_]
SEQUENCES = (MRSequence.T1, MRSequence.T1CE, MRSequence.FLAIR)
KINDS = (PatientKind.MENINGIOMA, PatientKind.HIGH_GRADE, PatientKind.MENINGIOMA, PatientKind.LOW_GRADE)
"""Of the phantoms, in turn."""
SEED = 27
PHANTOM_MM = 1.5
"""Sides of the phantoms' voxels."""
HEAD_MM = 30
"""Field of view that real brains are given around them."""
NEAR_MM = 5.0
COLUMNS = (
    *("head", "kind", "dice", "missing_ml", "tumour_ml", "near_surface_ml", "lost_without_rim_ml", "lost_ml"),
    *("largest_lost_ml", "farthest_lost_mm", "rim_ml", "rim_outside_brain_ml", "source", "cpu_s"),
)


@dataclass(frozen=True)
class Head:
    """A head whose brain and tumour are known, on one grid.

    Attributes:
        study: with skull.
        kind: what grew, or ``real``.
        brain, tumour: ``(X, Y, Z)``.
    """

    study: Study
    kind: str
    brain: Mask
    tumour: Mask


def phantom(number: int) -> Head:
    """The phantom of a number, from 1."""
    rng = np.random.default_rng([SEED, number])
    kind = KINDS[(number - 1) % len(KINDS)]
    course = draw_course(rng, kind, visits=1, at_dura=True)
    config = PhantomConfig(
        study_id=f"phantom-{number:02d}",
        grid=grid_around(np.zeros(3), HEAD_REACH_MM, spacing_mm=(PHANTOM_MM,) * 3, orientation="RAS"),
        brain_centre_mm=(0.0, 0.0, 0.0),
        acquisition=AcquisitionConfig(sequences=SEQUENCES),
    )
    made = make_visit(course, 0, config).phantom
    return _with_skull(made.study, kind.value, made.labels, rng)


def real_heads(folder: Path) -> Iterator[Head]:
    """Every labelled study below a folder."""
    for files in find_studies(folder):
        if files.labels is not None:
            yield real_head(files)


def real_head(files: Timepoint, sequences: tuple[MRSequence, ...] = SEQUENCES) -> Head:
    """A labelled study in the phantoms' skull, the same one every time."""
    assert files.labels is not None
    study = load_study(files)
    wanted = {s: study.images[s] for s in sequences}
    box = bounding_box(brain_mask(wanted))
    assert box is not None
    images = {s: _around(volume, box) for s, volume in wanted.items()}
    labels = _around(read_label_map(files.labels), box)
    brain = brain_mask(images)
    images = {s: v.with_data(np.where(brain, v.data, 0)) for s, v in images.items()}
    rng = np.random.default_rng([SEED, *files.id.encode()])
    return _with_skull(Study(files.id, images), "real", labels, rng)


def _around(volume: Volume, box: tuple[slice, ...]) -> Volume:
    """The box with room for a head."""
    start = np.array([side.start for side in box])
    data = np.pad(volume.data[box], HEAD_MM)
    affine = np.array(volume.affine)
    affine[:3, 3] = volume.grid.to_world(start - HEAD_MM)
    return Volume.from_affine(data, affine)


def _with_skull(bare: Study, kind: str, labels: Volume, rng: np.random.Generator) -> Head:
    brain = np.logical_or.reduce([volume.data != 0 for volume in bare.images.values()])
    filled = {s: v.with_data(np.where(brain, np.maximum(v.data, 1e-3), 0)) for s, v in bare.images.items()}
    study = add_skull(replace(bare, images=filled), draw_skull(rng), rng, tumour=labels)
    return Head(study, kind, brain, (labels.data > 0) & brain)


def row_of(head: Head) -> dict[str, Any]:
    """What was measured of a head."""
    grid = head.study.reference_volume.grid
    rim: list[Mask] = []

    def seen(brain: Mask, images: Mapping[MRSequence, Volume]) -> Mask:
        rim.append(brain)
        return tumour_at_rim(brain, images)

    tumour_at_rim = stripping.tumour_at_rim
    there = RigidMotion(np.eye(4), 1.0, 1.0, 0.0, 0.0)
    began = time.process_time()
    with (
        mock.patch.object(stripping, "register_rigid", lambda *_, **__: there),
        mock.patch.object(stripping, "tumour_at_rim", seen),
    ):
        heads = dict.fromkeys(head.study.present, "synthetic")
        stripped = stripping.strip(head.study, heads, open_brain_networks)
    seconds = time.process_time() - began
    found = on_scan(stripped, head.study.reference_sequence, grid)
    before = on_scan(replace(stripped, brain=rim[0]), head.study.reference_sequence, grid)
    lost = head.tumour & ~found
    pieces = np.bincount(cc3d.connected_components(lost, connectivity=26).ravel())[1:]
    away = ndimage.distance_transform_edt(~found, sampling=grid.spacing_mm)
    depth = ndimage.distance_transform_edt(head.brain, sampling=grid.spacing_mm)
    measured = {
        "missing_ml": missing_ml(found, head.brain, grid),
        "tumour_ml": _ml(head.tumour, grid),
        "near_surface_ml": _ml(head.tumour & (depth <= NEAR_MM), grid),
        "lost_without_rim_ml": _ml(head.tumour & ~before, grid),
        "lost_ml": _ml(lost, grid),
        "largest_lost_ml": float(pieces.max(initial=0)) * grid.voxel_ml,
        "farthest_lost_mm": float(away[lost].max(initial=0)),
        "rim_ml": stripped.rim_ml,
        "rim_outside_brain_ml": _ml(found & ~before & ~head.brain, grid),
    }
    dice = 2 * (found & head.brain).sum() / (found.sum() + head.brain.sum())
    words = {"head": head.study.id, "kind": head.kind, "dice": f"{dice:.4f}"}
    rest = {"source": stripped.source, "cpu_s": f"{seconds:.1f}"}
    return {**words, **{name: f"{value:.3f}" for name, value in measured.items()}, **rest}


def _ml(mask: Mask, grid: Grid) -> float:
    return float(mask.sum()) * grid.voxel_ml


def main() -> None:
    """Measure the heads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    if not arguments.output.exists():
        arguments.output.write_text("\t".join(COLUMNS) + "\n")
    numbers = range(arguments.first, arguments.first + arguments.count)
    heads = (head for folder in arguments.studies for head in real_heads(folder))
    for head in heads if arguments.studies else map(phantom, numbers):
        row = row_of(head)
        line = "\t".join(str(row[name]) for name in COLUMNS)
        print(line, flush=True)
        with arguments.output.open("a") as table:
            table.write(line + "\n")


if __name__ == "__main__":
    main()
