"""Prepared studies of noise inside a ball, small enough for a random network."""

from __future__ import annotations

import numpy as np

from brats_seg.core.grid import Grid
from brats_seg.core.scans import PreparationRecord, PreparedStudy
from brats_seg.core.study import SEQUENCES, MRSequence


def noise_study(
    shape: tuple[int, int, int] = (32, 24, 16), *, seed: int = 0, present: tuple[MRSequence, ...] = SEQUENCES
) -> PreparedStudy:
    grid = Grid(shape, np.eye(4))
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    brain = sum(axis**2 for axis in axes) < 1
    array = np.random.default_rng(seed).normal(size=(4, *shape)).astype(np.float32) * brain
    for channel, sequence in enumerate(SEQUENCES):
        if sequence not in present:
            array[channel] = 0
    record = PreparationRecord(native=grid, network=grid)
    return PreparedStudy("tiny", array, np.asarray(brain), present, record)


def mirrored(prepared: PreparedStudy) -> PreparedStudy:
    """The study with left and right exchanged in the array."""
    return PreparedStudy(
        prepared.id,
        np.ascontiguousarray(prepared.array[:, ::-1]),
        np.ascontiguousarray(prepared.brain[::-1]),
        prepared.present,
        prepared.record,
    )
