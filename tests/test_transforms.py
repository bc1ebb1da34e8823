"""Our preparation as MONAI transforms: the same as MONAI's own, and every step leads back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, DivisiblePad, Orientation, Spacing
from strategies import ORIENTATIONS, affine_of

from brats_seg.transforms import CropToBraind, Respaced, TurnToRASd

TOLERANCE = 1e-6
AXES = (("L", "R"), ("P", "A"), ("I", "S"))


def head(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), orientation: str = "RAS") -> MetaTensor:
    """Random values inside an ellipsoid, two channels, on a grid whose origin is no whole number."""
    shape = (23, 30, 17)
    places = np.indices(shape) - (np.array(shape) / 2)[:, None, None, None]
    inside = ((places / (np.array(shape) / 2.8)[:, None, None, None]) ** 2).sum(axis=0) < 1
    values = np.random.default_rng(0).normal(10, 1, size=(2, *shape)).astype(np.float32) * inside
    affine = affine_of(orientation, spacing_mm, (-11.3, 7.25, 40.1))
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine))


def assert_same(ours: MetaTensor, theirs: MetaTensor) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=TOLERANCE * float(theirs.max()))
    np.testing.assert_allclose(ours.affine.numpy(), theirs.affine.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_turning_is_monais_orientation_and_leads_back(orientation: str) -> None:
    image = head((1.0, 1.0, 1.0), orientation)
    turn = TurnToRASd(["image"])
    turned = turn({"image": image})
    assert_same(turned["image"], Orientation("RAS", labels=AXES)(image))
    assert_same(turn.inverse(turned)["image"], image)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 3.0), (0.5, 0.5, 1.0), (1.2, 0.9, 1.0)])
def test_respacing_is_monais_spacing(spacing_mm: tuple[float, float, float]) -> None:
    image = head(spacing_mm)
    step = Respaced(["image"], 1.0)
    found = step({"image": image})
    assert_same(found["image"], Spacing((1.0, 1.0, 1.0), mode="bilinear", padding_mode="zeros")(image))
    back = step.inverse(found)["image"]
    assert back.shape == image.shape
    np.testing.assert_allclose(back.affine.numpy(), image.affine.numpy(), atol=TOLERANCE)
    assert np.corrcoef(back.numpy().ravel(), image.numpy().ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("margin", "divisor"), [(2, 8), (0, 1), (9, 16)])
def test_cropping_is_monais_crop_and_pad_and_leads_back(margin: int, divisor: int) -> None:
    image = head((1.0, 2.0, 1.0))
    brain = MetaTensor((image[:1] > 0).float(), affine=image.affine)
    crop = CropToBraind(["image", "brain"], "brain", margin=margin, divisor=divisor)
    found = crop({"image": image, "brain": brain})
    theirs = CropForeground(select_fn=lambda x: x > 0, channel_indices=[0], margin=margin, allow_smaller=True)(image)
    assert_same(found["image"], DivisiblePad(divisor, mode="constant")(theirs))
    back = crop.inverse(found)
    assert_same(back["image"], image)
    assert_same(back["brain"], brain)


def test_steps_in_a_row_lead_back_and_labels_stay_numbers() -> None:
    image = head((1.0, 1.0, 2.0), "LPS")
    labels = MetaTensor((image[:1] > 0).to(torch.uint8) * 3, affine=image.affine, meta={"filename_or_obj": "a.nii.gz"})
    data = {"image": image, "labels": labels, "id": "a"}
    keys = ["image", "labels"]
    steps = [TurnToRASd(keys), Respaced(keys, labels=["labels"]), CropToBraind(keys, "labels", labels=["labels"])]
    for step in steps:
        data = step(data)
    assert data["id"] == "a"
    assert tuple(data["image"].shape[1:]) == (32, 32, 32)
    assert data["labels"].dtype == torch.uint8
    for step in reversed(steps):
        data = step.inverse(data)
    assert data["labels"].meta["filename_or_obj"] == "a.nii.gz"
    assert set(np.unique(data["labels"].numpy())) == {0, 3}
    assert np.mean(data["labels"].numpy() == labels.numpy()) > 0.97
    np.testing.assert_allclose(data["image"].affine.numpy(), image.affine.numpy(), atol=TOLERANCE)
