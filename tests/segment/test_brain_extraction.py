"""Brain extraction finds the brain, equals deepbet, and refuses what is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from heads_with_skull import SPACING_MM, brain_of, head, head_grid
from numpy.typing import NDArray

from brats_seg.core.errors import InputError, ModelError
from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence
from brats_seg.models import brain as models_brain
from brats_seg.models.brain import BrainNetworks, open_brain_networks
from brats_seg.segment.brain import FoundBrain, check_brain, find_brain

pytestmark = pytest.mark.slow  # the shipped networks run


@pytest.fixture(scope="module")
def networks() -> BrainNetworks:
    return open_brain_networks()


@pytest.fixture(scope="module")
def found(networks: BrainNetworks) -> FoundBrain:
    """The brain of the made head, which was stored along other axes."""
    return find_brain(head().images[MRSequence.T1].flip(0).permute((1, 2, 0)), networks)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_brain_of_a_head_is_found(found: FoundBrain) -> None:
    assert found.probability.grid.orientation == "RAS"
    assert dice(found.mask, brain_of(head_grid())) > 0.97
    check_brain(found.mask, found.probability.grid, largest_share=found.largest_share)


def test_both_engines_find_the_same_brain(networks: BrainNetworks, found: FoundBrain) -> None:
    assert networks.engine == "openvino"
    other = find_brain(head().images[MRSequence.T1], open_brain_networks("onnxruntime"))
    assert dice(found.mask, other.mask) >= 0.999


def test_the_engine_is_the_one_asked_for_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_file(_path: Path, engine: str, *, threads: int | None) -> SimpleNamespace:
        opened.append(engine)
        return SimpleNamespace(logits=None)

    monkeypatch.setattr(models_brain, "open_file", open_file)
    for asked, chosen in (("onnxruntime", "onnxruntime"), ("auto", "openvino"), ("torch", "openvino")):
        assert open_brain_networks(asked, threads=1).to_dict()["engine"] == chosen
        assert opened == [chosen] * 2
        opened.clear()
    monkeypatch.setattr("brats_seg.models.brain.find_spec", lambda _: None)  # as where OpenVINO is not installed
    assert open_brain_networks().engine == "onnxruntime"


def test_it_equals_deepbet(found: FoundBrain, tmp_path: Path) -> None:
    deepbet = pytest.importorskip(
        "deepbet", reason="deepbet is not there (pip install --no-deps deepbet fill-voids fastremap)"
    )
    scan = head().images[MRSequence.T1]
    file, mask = tmp_path / "head.nii", tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(scan.data, scan.affine), file)
    deepbet.run_bet([str(file)], mask_paths=[str(mask)], no_gpu=True)
    assert dice(found.mask, np.asarray(nib.load(mask).dataobj) > 0) >= 0.999


def test_a_native_study_meets_another_extractor(networks: BrainNetworks, real_data: Path) -> None:
    folder = real_data / "native" / "TCGA-FG-6692"
    image = nib.load(folder / "TCGA-FG-6692_t1ce.nii.gz")
    reference = nib.as_closest_canonical(nib.load(folder / "TCGA-FG-6692_t1ce_brainmask.nii.gz"))
    found = find_brain(Volume.from_affine(image.get_fdata(dtype=np.float32), image.affine), networks)
    assert dice(found.mask, np.asarray(reference.dataobj) > 0) >= 0.965


def test_an_altered_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in models_brain.FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "box.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(models_brain, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"box\.onnx"):
        open_brain_networks()


def test_outlines_that_are_no_brain_are_refused() -> None:
    grid = head_grid()
    brain = brain_of(grid)
    check_brain(brain, grid)
    points = grid.to_world(np.argwhere(np.ones(grid.shape, bool))).reshape(*grid.shape, 3)
    eye = np.linalg.norm(points - (30, 92, -30), axis=-1) < 12
    nerve = (np.linalg.norm(points[..., [0, 2]] - (30, -30), axis=-1) < SPACING_MM) & (points[..., 1] > 0)
    for outline, words in (
        (brain & (points[..., 0] > 0), "left and on the right"),
        (brain & (np.linalg.norm(points, axis=-1) < 30), "measures"),
        (np.ones(grid.shape, bool), "measures"),
        (brain | eye | (nerve & (points[..., 1] < 92)), "eye"),
    ):
        with pytest.raises(InputError, match=words):
            check_brain(outline, grid)
    with pytest.raises(InputError, match="pieces"):
        check_brain(brain, grid, largest_share=0.6)
