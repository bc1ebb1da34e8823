"""Mutual information: known values."""

from __future__ import annotations

import numpy as np
import pytest

from brats_seg.imaging.similarity import mutual_information


def test_an_image_says_everything_about_itself() -> None:
    """Uniform over 16 bins: the entropy, ln 16, less the correction of (16 - 16 - 16 + 1) / 2N, which adds 15 / 2N."""
    values = np.repeat(np.arange(16), 1000)
    assert mutual_information(values, values, 16) == pytest.approx(np.log(16) + 15 / 32_000, abs=1e-9)


def test_contrast_does_not_matter_but_content_does() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=20_000)
    assert mutual_information(a, -3 * a + 7, 32) == pytest.approx(mutual_information(a, a, 32), abs=0.02)
    assert abs(mutual_information(a, rng.permutation(a), 32)) < 0.01


@pytest.mark.parametrize("count", [3_000, 10_000, 100_000])
def test_unrelated_values_give_about_nothing_whatever_their_number(count: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=(2, count))
    uncorrected = 15 * 15 / (2 * count)
    assert abs(mutual_information(a, b, 16)) < uncorrected / 3


def test_known_value_of_a_gaussian_pair() -> None:
    """Correlation r: -0.5 ln(1 - r^2) nats; binning loses a little."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=200_000)
    b = 0.8 * a + 0.6 * rng.normal(size=a.size)
    assert mutual_information(a, b, 40) == pytest.approx(-0.5 * np.log(1 - 0.64), rel=0.05)


def test_nothing_and_a_constant_say_nothing() -> None:
    assert mutual_information(np.empty(0), np.empty(0), 32) == 0
    assert mutual_information(np.ones(50), np.arange(50), 32) == 0
