"""Windows over a volume: every voxel is seen, and blended as MONAI's sliding window blends."""

from __future__ import annotations

import numpy as np
import pytest

from brats_seg.segment.predict import in_windows


def double(array: np.ndarray) -> np.ndarray:
    """A network that sees voxels alone: windows can change nothing."""
    return np.concatenate([array * 2, array[:1] + 1])


def brighter_to_the_right(array: np.ndarray) -> np.ndarray:
    """A network that says where in its window a voxel lies, so that how windows are blended shows."""
    return array + np.arange(array.shape[1], dtype=np.float32)[None, :, None, None]


@pytest.mark.parametrize("window", [(16, 12, 8), (8, 8, 8), (15, 5, 8), (16, 4, 3)])
def test_a_network_of_single_voxels_says_the_same_in_windows(window: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).normal(size=(2, 16, 12, 8)).astype(np.float32)
    np.testing.assert_allclose(in_windows(array, window, double), double(array), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [(16, 12, 8), (8, 8, 8), (12, 8, 8)])
def test_windows_are_blended_as_monai_blends_them(window: tuple[int, int, int]) -> None:
    import torch
    from monai.inferers import sliding_window_inference

    array = np.random.default_rng(0).normal(size=(2, 20, 12, 8)).astype(np.float32)
    theirs = sliding_window_inference(
        torch.from_numpy(array)[None],
        roi_size=window,
        sw_batch_size=1,
        predictor=lambda part: torch.from_numpy(brighter_to_the_right(part[0].numpy()))[None],
        overlap=0.5,
        mode="gaussian",
    )[0].numpy()
    np.testing.assert_allclose(in_windows(array, window, brighter_to_the_right), theirs, atol=1e-4)
