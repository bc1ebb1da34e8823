"""Data sets of brains of half the size, which take a fraction of the time, in this process and in those of a pool."""

from __future__ import annotations

from typing import Any

import pytest

from brats_seg.core.grid import Grid
from brats_seg.phantom import dataset
from brats_seg.phantom.acquire import AcquisitionConfig
from brats_seg.phantom.anatomy import AnatomyConfig
from brats_seg.phantom.make import PhantomConfig
from tests.strategies import affine_of

SMALL = PhantomConfig(
    grid=Grid((84, 100, 84), affine_of("LPS")),
    anatomy=AnatomyConfig(scale=0.5, deform_mm=1.0),
    acquisition=AcquisitionConfig(noise=0.05),
)
_pool_patient = dataset._pool_patient


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Patch what says where a visit lies and how large its brain is."""
    patch.setattr(dataset, "visit_config", lambda *_: SMALL)


def small_pool_patient(*arguments: Any) -> Any:
    """A patient in a process of the pool, which knows nothing of what is patched in that of the test."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return _pool_patient(*arguments)
