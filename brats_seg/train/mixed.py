"""Phantom patients among the studies a network is trained on.

Bodies are made once, on the processor, and kept as tissue maps; every sample scans one anew on the device that trains
(:mod:`.phantoms`), turned, scaled and bent like a real study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from brats_seg.core.grid import Grid
from brats_seg.imaging.boxes import bounding_box
from brats_seg.phantom.course import grow_course, patient_at
from brats_seg.phantom.make import PhantomConfig
from brats_seg.phantom.script import PatientKind, draw_course
from brats_seg.train.arrays import open_arrays, write_arrays
from brats_seg.train.augment import Chance, alter, drop_sequences, read_at, sample_points
from brats_seg.train.config import PhantomMixConfig, TrainConfig
from brats_seg.train.data import coarser
from brats_seg.train.phantoms import draw_phantoms, pack_tissues

KINDS = (
    PatientKind.HIGH_GRADE,
    PatientKind.HIGH_GRADE,
    PatientKind.LOW_GRADE,
    PatientKind.HIGH_GRADE,
    PatientKind.METASTASES,
    PatientKind.NONE,
)
"""Taken in turn; mostly the high-grade tumour, as most studies show one."""
SPACE = Grid((240, 240, 240), np.eye(4))
"""Axes and voxel size of a body: RAS and 1 mm, as prepared studies have them."""


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A body to scan, at the spacing a network works at, on the training device.

    Attributes:
        id: its number and kind.
        shares: uint8 ``(T, X, Y, Z)``, see :func:`~brats_seg.train.phantoms.pack_tissues`.
    """

    id: str
    shares: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.shares.shape[1:]
        return int(x), int(y), int(z)


def open_phantoms(
    mix: PhantomMixConfig, cache: Path, *, factor: int, device: torch.device, progress: bool = True
) -> list[PhantomCase]:
    """The bodies of a configuration, made where they are not there yet.

    Args:
        cache: where their tissue maps are kept.
        factor: voxels of 1 mm that one voxel of the network spans along each axis.

    Raises:
        InputError: if a file in ``cache`` is damaged.
    """
    place = cache / sha256(repr((mix.seed, [kind.value for kind in KINDS])).encode()).hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    cases = []
    for number in tqdm(range(mix.count), desc="make phantoms", disable=not progress):
        kind = KINDS[number % len(KINDS)]
        path = place / f"{number:04d}_{kind.value}.npz"
        if not path.exists():
            write_arrays(path, {"shares": make_shares(kind, [mix.seed, number])})
        with open_arrays(path) as held:
            shares = coarser(torch.from_numpy(held["shares"]).float(), factor)
        cases.append(PhantomCase(path.stem, shares.round().to(torch.uint8).to(device)))
    return cases


def make_shares(kind: PatientKind, seed: Sequence[int]) -> NDArray[np.uint8]:
    """Tissue map ``(T, X, Y, Z)`` of a patient of ``brats-seg phantom`` at 1 mm, RAS, cut to the brain."""
    config = PhantomConfig(grid=SPACE)
    course = draw_course(np.random.default_rng(seed), kind, visits=1)
    patient, _ = patient_at(grow_course(course, config), 0, config)
    shares = pack_tissues(patient.body.tissues())
    box = bounding_box(shares.max(axis=0)) or ()
    return np.ascontiguousarray(shares[(slice(None), *box)])


def draw_phantom_sample(
    cases: Sequence[PhantomCase], patch: tuple[int, int, int], config: TrainConfig, rng: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """One newly scanned, augmented sample: image ``(4, *patch)`` and target ``(3, *patch)``."""
    case = cases[rng.below(len(cases))]
    points = sample_points(case.shape, patch, config, rng).to(case.shares.device)
    shares = read_at(case.shares.float(), points).round().to(torch.uint8)
    image, target = draw_phantoms(shares[None], [rng.below(2**31)])
    altered = alter(image[0], (image[0] != 0).any(dim=0), config.augment, rng)
    return drop_sequences(altered, config.augment, rng), target[0]
