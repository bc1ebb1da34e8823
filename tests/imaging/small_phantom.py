"""A phantom that is quickly made: sequences that fit together, of a brain that is whole."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import MRSequence
from brats_seg.phantom.anatomy import AnatomyConfig
from brats_seg.phantom.make import BRATS_CENTRE_MM, PhantomConfig
from experiments.volumetry.nested import NestedConfig, make_phantom


@cache
def phantom(seed: int) -> Mapping[MRSequence, Volume]:
    """A small brain, whole, on voxels of 2 mm."""
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[1, 3] = 239.0
    config = PhantomConfig(
        grid=Grid((120, 120, 78), affine),
        brain_centre_mm=BRATS_CENTRE_MM,
        anatomy=AnatomyConfig(scale=0.8),
    )
    return dict(make_phantom(config, np.random.default_rng(seed), tumour=NestedConfig()).study.images)
