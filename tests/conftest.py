"""Fixtures shared by all tests, and the fast lane: ``--fast`` leaves out slow tests and those that reach for torch.

Real scans are used where they lie beside the project, and are never copied into it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class _SkipsWhatNeedsTorch(MetaPathFinder):
    """Skips the module or test that imports torch or MONAI, at any depth, so that nobody need mark it."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in {"torch", "monai"}:
            pytest.skip(f"needs {fullname}, which the fast lane does not load", allow_module_level=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out slow tests and those that load torch or MONAI")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        sys.meta_path.insert(0, _SkipsWhatNeedsTorch())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture(scope="module")
def coarse_brains() -> Iterator[None]:
    """Phantoms from a template of 2 mm, for a module whose brains are half as large as brains are."""
    from tests.phantom.small_phantoms import make_coarse  # nibabel and scipy, which not every test needs

    with pytest.MonkeyPatch.context() as patch:
        make_coarse(patch)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real studies; the test is skipped, saying so, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real studies beside the project ({DATA.parent.name}/{DATA.name})")
    return DATA


@pytest.fixture(scope="session")
def real_study(real_data: Path) -> Path:
    """Folder of one real study with four sequences and an expert label in 2021 numbers."""
    return real_data / "studies" / "BraTS2021_01481"
