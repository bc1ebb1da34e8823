"""Tumour that a brain mask cuts off at the skull, in round heads whose layers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence
from brats_seg.segment.rim import tumour_at_rim

T1, T1CE, FLAIR = MRSequence.T1, MRSequence.T1CE, MRSequence.FLAIR
Mask = NDArray[np.bool_]
Tissue = dict[MRSequence, float]
RADIUS = 32.0
BRAIN: Tissue = {T1: 1.0, T1CE: 1.0, FLAIR: 1.0}
BONE: Tissue = {T1: 0.08, T1CE: 0.08, FLAIR: 0.08}
MARROW: Tissue = {T1: 1.1, T1CE: 1.8, FLAIR: 0.85}  # enhances, and is no brighter than brain without contrast
FAT: Tissue = {T1: 1.9, T1CE: 1.8, FLAIR: 1.2}
EDEMA: Tissue = {T1: 0.9, T1CE: 0.95, FLAIR: 1.5}
MENINGIOMA: Tissue = {T1: 0.95, T1CE: 1.9, FLAIR: 1.2}


def round_head(tissue: Tissue | None, *, table_mm: float = 2.0) -> tuple[dict[MRSequence, Volume], Mask, Mask, Mask]:
    """A head in voxels of 1 mm: images, distance from the middle, brain, and tumour, which touches the bone."""
    axis = np.arange(-46.0, 47.0)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    away = np.sqrt(x**2 + y**2 + z**2)
    brain = away < RADIUS
    tumour = brain & ((x - 24) ** 2 + y**2 + z**2 < 13**2) & (tissue is not None)
    edges = RADIUS + np.cumsum([0.0, table_mm, 3.0, 2.0, 4.0])
    rng = np.random.default_rng(4)
    texture = ndimage.gaussian_filter(rng.standard_normal(away.shape), 2.0)
    texture *= 0.12 / texture.std()
    images = {}
    for sequence in (T1, T1CE, FLAIR):
        signal = np.where(tumour, (tissue or BRAIN)[sequence], np.where(brain, BRAIN[sequence], 0.0)) * (1 + texture)
        for start, layer in zip(edges, (BONE, MARROW, BONE, FAT), strict=False):
            signal = np.where(away >= start, layer[sequence], signal)
        signal = np.where(away >= edges[-1], 0.0, signal)
        signal = ndimage.gaussian_filter(signal, 0.9) + 0.06 * rng.standard_normal(signal.shape)
        images[sequence] = Volume.from_affine((300 * signal).astype(np.float32), np.eye(4))
    return images, away, brain, tumour


@pytest.mark.parametrize("tissue", [EDEMA, MENINGIOMA])
def test_the_outermost_layer_of_a_tumour_comes_back(tissue: Tissue) -> None:
    """What is partly bone is darker than tumour, down to half of its signal."""
    images, away, brain, tumour = round_head(tissue)
    cut = brain & ~(tumour & (away > RADIUS - 3))
    added = tumour_at_rim(cut, images)
    assert (tumour & ~cut).sum() > 500
    assert (tumour & ~cut & ~added).sum() < 0.1 * (tumour & ~cut).sum()
    assert (added & ~brain).sum() < 0.1 * (tumour & ~cut).sum()


@pytest.mark.parametrize("tissue", [EDEMA, MENINGIOMA])
def test_marrow_beyond_bone_is_no_tumour(tissue: Tissue) -> None:
    """A mask that reaches into the bone touches marrow, and the table between is thinner than a cell."""
    images, away, _, _ = round_head(tissue, table_mm=1.5)
    wide = away < RADIUS + 1
    assert tumour_at_rim(wide, images).sum() < 100


def test_without_a_tumour_nothing_is_added() -> None:
    images, away, _, _ = round_head(None)
    for cut_mm in (-2.0, 0.0, 2.0):
        assert not tumour_at_rim(away < RADIUS - cut_mm, images).any()
