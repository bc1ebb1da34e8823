"""Brains of half the size, which take a fraction of the time, and data sets of them, in a pool's processes too."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from brats_seg.core.grid import Grid
from brats_seg.core.study import MRSequence
from brats_seg.phantom import anatomy, dataset
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.anatomy import AnatomyConfig, Template, load_template
from brats_seg.phantom.course import PhantomConfig
from tests.strategies import affine_of

SMALL = PhantomConfig(
    grid=Grid((84, 100, 84), affine_of("LPS")),
    anatomy=AnatomyConfig(scale=0.5, deform_mm=1.5),
    acquisition=AcquisitionConfig(noise=0.05),
)
T1CE_ALONE = replace(SMALL, acquisition=AcquisitionConfig(sequences=(MRSequence.T1CE,)))
_write_course = dataset.write_course


@cache
def coarse_template() -> Template:
    """Every other voxel of the template along each axis: as fine for half a brain as all of them are for a brain."""
    fine = load_template()
    maps = (fine.csf, fine.grey, fine.white, fine.depth_mm, fine.mixed)
    csf, grey, white, depth_mm, mixed = (np.ascontiguousarray(values[::2, ::2, ::2]) for values in maps)
    x, y, z = csf.shape
    affine = fine.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    return Template(Grid((x, y, z), affine), csf, grey, white, depth_mm, mixed, fine.centre_mm)


def make_coarse(patch: pytest.MonkeyPatch) -> None:
    """Patch the template brains are made from."""
    patch.setattr(anatomy, "load_template", coarse_template)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Patch what says where a visit lies and how large its brain is."""
    make_coarse(patch)
    patch.setattr(dataset, "visit_config", lambda *_: SMALL)


def write_small_course(*arguments: Any) -> Any:
    """A course in a process of a pool, which knows nothing of what is patched in that of the test."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return _write_course(*arguments)
