"""Fixtures shared by all tests. Real scans are used where they lie beside the project, and are never copied into it."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
