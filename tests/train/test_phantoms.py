"""Phantoms drawn in torch: truth kept, chance by seed alone, contrast as it should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brats_seg.core.errors import InputError
from brats_seg.phantom.contrast import Tissue
from brats_seg.train.phantoms import (
    TISSUES,
    ScannerConfig,
    _normal,
    draw_phantoms,
    pack_tissues,
)

CALM = ScannerConfig(jitter=0, free=0, texture=(0, 0), bias=0, blur=0, thick=0, noise=(0, 0))
ORDER = {tissue: number for number, tissue in enumerate(TISSUES, start=1)}


def numbers(side: int = 24) -> torch.Tensor:
    """Nested blocks of every tissue of a high-grade tumour in grey matter."""
    result = torch.zeros((1, side, side, side), dtype=torch.int64)
    for inset, tissue in (
        (2, Tissue.GREY), (4, Tissue.WHITE), (6, Tissue.EDEMA), (8, Tissue.ENHANCING), (10, Tissue.NECROSIS)
    ):  # fmt: skip
        inner = slice(inset, side - inset)
        result[:, inner, inner, inner] = ORDER[tissue]
    result[:, 2:5, 2:5, 2:5] = ORDER[Tissue.CSF]
    return result


def shares_of_numbers(tissue: torch.Tensor) -> torch.Tensor:
    """Packed shares ``(B, T, X, Y, Z)`` of whole voxels, each 0 or a number of :data:`ORDER`."""
    return torch.stack([(tissue == number).to(torch.uint8) * 255 for number in ORDER.values()], dim=1)


def test_packed_shares_round_to_a_quarter_percent() -> None:
    rng = np.random.default_rng(0)
    grey = rng.random((5, 6, 7)).astype(np.float32)
    packed = pack_tissues({Tissue.GREY: grey, Tissue.CSF: 1 - grey})
    assert packed.shape == (len(TISSUES), 5, 6, 7)
    np.testing.assert_allclose(packed[TISSUES.index(Tissue.GREY)] / 255, grey, atol=0.002)


def test_the_target_is_the_share_of_each_region() -> None:
    image, target = draw_phantoms(shares_of_numbers(numbers()), [1])
    assert image.shape == (1, 4, 24, 24, 24) and target.shape == (1, 3, 24, 24, 24)
    assert target.sum((2, 3, 4))[0].tolist() == [12.0**3, 8.0**3, 8.0**3 - 4.0**3]
    half = shares_of_numbers(numbers())
    half[:, :, 12] = half[:, :, 12] // 2
    assert float(draw_phantoms(half, [1])[1][0, 1, 12, 12, 12]) == pytest.approx(127 / 255)


def test_images_are_z_scores_within_the_head_and_0_outside() -> None:
    head = numbers()[0] > 0
    image = draw_phantoms(shares_of_numbers(numbers()), [3])[0][0]
    for channel in image:
        assert not channel[~head].any()
        assert float(channel[head].mean()) == pytest.approx(0, abs=1e-4)
        assert float(channel[head].std(unbiased=False)) == pytest.approx(1, abs=1e-3)


def test_without_chance_tissues_have_their_usual_order() -> None:
    image = draw_phantoms(shares_of_numbers(numbers()), [0], CALM)[0][0]
    where = numbers()[0]

    def level(channel: int, tissue: Tissue) -> float:
        values = image[channel][where == ORDER[tissue]]
        assert float(values.std()) < 1e-3  # flat
        return float(values.mean())

    t1, t1ce, t2, flair = range(4)
    assert level(t1, Tissue.CSF) < level(t1, Tissue.GREY) < level(t1, Tissue.WHITE)
    assert level(t2, Tissue.WHITE) < level(t2, Tissue.EDEMA) < level(t2, Tissue.CSF)
    assert level(flair, Tissue.CSF) < level(flair, Tissue.WHITE) < level(flair, Tissue.EDEMA)
    assert level(t1ce, Tissue.ENHANCING) > level(t1ce, Tissue.NECROSIS)


def test_a_seed_gives_the_same_phantom_whatever_is_beside_it_in_the_batch() -> None:
    shares = shares_of_numbers(numbers())
    alone = draw_phantoms(shares, [7])[0][0]
    batch = draw_phantoms(shares.expand(3, -1, -1, -1, -1), [5, 7, 7])[0]
    torch.testing.assert_close(batch[1], alone, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(batch[2], batch[1], atol=2e-5, rtol=1e-5)
    assert float((batch[0] - batch[1]).abs().mean()) > 0.05


def test_the_numbers_of_chance_are_normal_and_independent() -> None:
    values = _normal([1, 2], 0, (1, 64, 64, 32), torch.device("cpu"))
    for sample in values.reshape(2, -1).double():
        assert abs(float(sample.mean())) < 0.01
        assert abs(float(sample.var()) - 1) < 0.01
        assert abs(float((sample**4).mean()) - 3) < 0.1
        assert float(sample.abs().max()) > 4
        for lag in (1, 32, 2048, sample.numel() // 2):
            assert abs(float((sample * sample.roll(lag)).mean())) < 0.012
    assert abs(float((values[0] * values[1]).mean())) < 0.012


def test_noise_and_blur_act_as_named() -> None:
    shares = shares_of_numbers(numbers())
    noisy = ScannerConfig(jitter=0, free=0, texture=(0, 0), bias=0, blur=0, thick=0, noise=(0.3, 0.3))
    flat = draw_phantoms(shares, [1], CALM)[0]
    assert float((draw_phantoms(shares, [1], noisy)[0] - flat).std()) > 0.1
    thick = ScannerConfig(jitter=0, free=0, texture=(0, 0), bias=0, blur=0, thick=1, slices=(4, 4), noise=(0, 0))
    assert float((draw_phantoms(shares, [1], thick)[0] - flat).abs().max()) > 0.1


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="seeds"):
        draw_phantoms(shares_of_numbers(numbers()), [1, 2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same_phantom() -> None:
    shares = shares_of_numbers(numbers())
    on_cpu, target = draw_phantoms(shares, [11])
    on_gpu, other = draw_phantoms(shares.cuda(), [11])
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(other.cpu(), target)
