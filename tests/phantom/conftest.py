"""Fixtures of the tests of phantoms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.phantom.small_phantoms import make_coarse


@pytest.fixture(scope="module")
def coarse_brains() -> Iterator[None]:
    """Brains from a template of 2 mm, in a module whose brains are half as large as they are."""
    with pytest.MonkeyPatch.context() as patch:
        make_coarse(patch)
        yield
