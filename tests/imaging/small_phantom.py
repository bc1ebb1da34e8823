"""A phantom that is quickly made: sequences that fit together, of a brain that is whole."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.phantom.anatomy import AnatomyConfig
from brats_seg.phantom.course import PhantomConfig
from experiments.volumetry.nested import NestedConfig, make_phantom
from tests.phantom.small_phantoms import make_coarse

STRETCH = 1.8
"""A brain of half the size is made, and its voxels are then said to be so much longer."""


@cache
def phantom(seed: int) -> Mapping[MRSequence, Volume]:
    """A small brain, whole, on voxels of 1.8 mm."""
    config = PhantomConfig(
        grid=Grid((90, 106, 88), np.diag([-1.0, -1.0, 1.0, 1.0])),
        anatomy=AnatomyConfig(scale=0.5, deform_mm=1.4, fold_mm=0.7),
    )
    tumour = NestedConfig(core_volume_ml=(2.0, 2.0), edema_mm=(3.0, 3.0))
    with pytest.MonkeyPatch.context() as patch:
        make_coarse(patch)
        made = make_phantom(config, np.random.default_rng(seed), tumour=tumour).study.images
    stretch = np.diag([STRETCH, STRETCH, STRETCH, 1.0])
    return {s: Volume.from_affine(v.data, stretch @ v.affine) for s, v in made.items()}
