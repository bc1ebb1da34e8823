"""Means over blocks of voxels, and back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brats_seg.imaging.pooling import block_means, spread


def test_means_are_those_of_the_blocks_and_count_what_is_missing_as_zero() -> None:
    array = np.random.default_rng(0).normal(size=(2, 7, 4, 6)).astype(np.float32)
    found = block_means(array, (2, 4, 3))
    assert found.shape == (2, 4, 1, 2)
    np.testing.assert_allclose(found[1, 0, 0, 1], array[1, :2, :, 3:].mean(), rtol=1e-5)
    np.testing.assert_allclose(found[1, 3, 0, 0], array[1, 6:, :, :3].sum() / 24, rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("factors", [(2, 2, 2), (8, 8, 8), (1, 3, 2), (1, 1, 1)])
def test_spreading_is_linear_between_the_middles_of_blocks(factors: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    expected = ndimage.zoom(array, factors, order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(spread(array, factors), expected, atol=1e-5)
    np.testing.assert_array_equal(spread(np.stack([array, array]), factors)[1], spread(array, factors))
