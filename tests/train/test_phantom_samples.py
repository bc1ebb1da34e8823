"""Phantoms among the samples: made once, scanned anew, mixed in by chance."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from toy_packs import toy_packs

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import grid_between
from brats_seg.phantom.contrast import Tissue
from brats_seg.phantom.script import PatientKind
from brats_seg.train.augment import Chance
from brats_seg.train.config import PhantomMixConfig, train_config
from brats_seg.train.loop import train
from brats_seg.train.phantoms import TISSUES, draw_phantom_sample, make_shares, open_phantoms

CPU = torch.device("cpu")
CHANCES = (
    "flip", "rotation_deg", "scale", "elastic", "contrast", "brightness", "gamma", "bias_field", "noise", "blur",
    "thick_slices", "drop_sequence", "transplant",
)  # fmt: skip
STILL = dict.fromkeys(CHANCES, 0.0)


def ball_body(side: int = 40) -> torch.Tensor:
    """White matter with an enhancing ball in its middle."""
    axis = torch.arange(side) - (side - 1) / 2
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = (x**2 + y**2 + z**2) < 64
    shares = torch.zeros((len(TISSUES), side, side, side), dtype=torch.uint8)
    shares[TISSUES.index(Tissue.WHITE)][~ball] = 255
    shares[TISSUES.index(Tissue.ENHANCING)][ball] = 255
    return shares


def test_a_body_is_made_once_and_cut_to_its_brain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = PhantomMixConfig(share=0.5, count=1, seed=87)
    coarse = lambda _, person: grid_between(*person.box_mm, 2.0)  # noqa: E731 - an eighth of the voxels
    monkeypatch.setattr("brats_seg.phantom.course.body_grid", coarse)
    monkeypatch.setattr("brats_seg.phantom.seeding.COARSE_MM", 4.0)
    monkeypatch.setattr("brats_seg.train.phantoms.KINDS", (PatientKind.METASTASES,))  # small ones, that soon have grown
    make = Mock(side_effect=make_shares)
    monkeypatch.setattr("brats_seg.train.phantoms.make_shares", make)
    (first,) = open_phantoms(mix, tmp_path, factor=1, device=CPU, progress=False)
    (path,) = tmp_path.rglob("*.npz")
    (second,) = open_phantoms(mix, tmp_path, factor=1, device=CPU, progress=False)
    make.assert_called_once_with(PatientKind.METASTASES, [87, 0])  # by the seed and the number alone
    assert torch.equal(first, second)
    inside = first.float().sum(0) > 200
    litres = float(inside.sum()) * 8e-6
    assert 0.8 < litres < 2.0
    enhancing = first[TISSUES.index(Tissue.ENHANCING)].float().sum() / 255 * 0.008
    assert float(enhancing) > 0.1  # of the metastases
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="remove it"):
        open_phantoms(mix, tmp_path, factor=1, device=CPU, progress=False)


def test_a_sample_keeps_the_truth_of_its_body() -> None:
    config = train_config(
        {"patches": [[40, 40, 40]], "network": {"widths": [8, 16], "depths": [1, 1]}, "augment": STILL}
    )
    image, target = draw_phantom_sample([ball_body()], (40, 40, 40), config, Chance(5))
    assert image.shape == (4, 40, 40, 40) and target.shape == (3, 40, 40, 40)
    volume = 4 / 3 * np.pi * 8**3
    assert [float(region.sum()) for region in target] == pytest.approx([volume] * 3, rel=0.03)
    again = draw_phantom_sample([ball_body()], (40, 40, 40), config, Chance(5))
    assert torch.equal(again[0], image)
    other = draw_phantom_sample([ball_body()], (40, 40, 40), config, Chance(6))
    assert not torch.equal(other[0], image)


def test_sequences_go_missing_in_phantoms_too() -> None:
    config = train_config(
        {"network": {"widths": [8, 16], "depths": [1, 1]}, "augment": {**STILL, "drop_sequence": 1.0}}
    )
    image, _ = draw_phantom_sample([ball_body()], (16, 16, 16), config, Chance(1))
    assert any(not channel.any() for channel in image) and image.any()


def test_training_with_phantoms_alone_learns_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_seg.train.loop.open_phantoms", lambda *_, **__: [ball_body(24)])
    values = {
        "steps": 6, "warmup": 1, "patches": [[16, 16, 16]], "network": {"widths": [8, 16], "depths": [1, 1]},
        "phantoms": {"share": 0.5}, "checkpoint_s": 0.0,
    }  # fmt: skip
    config = train_config(values)
    whole = train(toy_packs(), config, tmp_path / "whole", progress=False).read_bytes()
    train(toy_packs(), config, tmp_path / "parts", until=0, progress=False)
    assert train(toy_packs(), config, tmp_path / "parts", resume=True, progress=False).read_bytes() == whole
    without = train_config({**values, "phantoms": {}})
    assert train(toy_packs(), without, tmp_path / "without", progress=False).read_bytes() != whole


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"phantoms": {"share": 2.0}}, "0..1"),
        ({"phantoms": {"share": 0.2}, "stage": "fine", "spacing_mm": 1.0}, "coarse stage only"),
        ({"phantoms": {"share": 0.2}, "sequences": ["t1"]}, "all four sequences"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        train_config(values)
