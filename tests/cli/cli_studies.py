"""Small files for tests of the command line: scans, label maps, models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import pytest
from heads import head_grid, head_image
from onnx import TensorProto, helper, numpy_helper
from small_models import small_card

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.card import file_sha256, write_card
from brats_seg.models.rules import PostprocessConfig
from brats_seg.run.cohort import patient_task

SPACING_MM = 3.0
GRID = head_grid("LPS", spacing_mm=(SPACING_MM,) * 3)
LARGE_VOXELS = ("brats_seg.track.boundary_shift.frame.SPACING_MM", (2.0, 3.0))
"""What is patched, and with what, so that two visits are compared in the size of the scans' own voxels."""


def large_voxels_task(*arguments: Any) -> Any:
    """A patient's task in a process of the pool, which knows nothing of what is patched in the one of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*LARGE_VOXELS)
        return patient_task(*arguments)


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def write_model(folder: Path, *, bias: float, gain: float = 0.0) -> Path:
    """A model of one stage that works at the spacing of the small studies, in ONNX alone.

    Its network weighs the four sequences of a voxel a little, and adds ``bias`` to the logit of each region, and
    ``gain`` for each deviation that T1CE lies above the brain's mean.
    """
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "x", "y", "z"])
        for name, channels in (("image", 4), ("logits", 3))
    )
    weights = np.random.default_rng(0).normal(0.0, 0.3, (3, 4, 1, 1, 1)).astype(np.float32)
    weights[:, SEQUENCES.index(MRSequence.T1CE)] += gain
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.full(3, bias, np.float32), "b")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["logits"])], "small", [image], [logits], tensors
    )
    network = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    folder.mkdir(parents=True)
    onnx.save(network, folder / "coarse.onnx")
    card = small_card(("coarse",), PostprocessConfig(), prepared_mm=SPACING_MM)
    files = {"coarse.onnx": file_sha256(folder / "coarse.onnx")}
    stage = replace(card.stages[0], spacing_mm=SPACING_MM, files=files)
    write_card(replace(card, stages=(stage,)), folder)
    return folder


def scan(sequence: MRSequence = MRSequence.FLAIR, grid: Grid = GRID) -> Volume:
    return head_image(grid, sequence)


def write_nifti(data: np.ndarray, affine: np.ndarray, path: Path, *, code: int = 1) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_scan(volume: Volume, path: Path) -> Path:
    return write_nifti(volume.data.astype(np.float32), volume.affine, path)


def write_case(folder: Path, *, name: str = "", sequences: Iterable[MRSequence] = SEQUENCES, grid: Grid = GRID) -> Path:
    """``<folder>/<name>_t1.nii.gz`` and so on."""
    for sequence in sequences:
        write_scan(scan(sequence, grid), folder / f"{name or folder.name}_{sequence.value}.nii.gz")
    return folder


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Alter the voxels of a file."""
    image = nib.load(path)
    write_nifti(edit(np.asarray(image.dataobj)), image.affine, path)


def change_header(path: Path, edit: Callable[[Any], None]) -> None:
    """Alter the header of a ``.nii.gz`` file, byte by byte, without what nibabel would mend."""
    import gzip

    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348], check=False)
    edit(header)
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))


def label_array(*numbers: int) -> np.ndarray:
    """Small blocks of the numbers given."""
    labels = np.zeros((24, 20, 16), np.uint8)
    for i, number in enumerate(numbers):
        labels[2 + 5 * i : 6 + 5 * i, 5:15, 4:12] = number
    return labels


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden things too; empty where there is no folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def texts(folder: Path) -> dict[str, bytes]:
    """Bytes of every file in a folder, compressed ones unpacked."""
    import gzip

    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            found[path.name] = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return found
