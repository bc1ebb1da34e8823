"""Panels at half their size, except where a test asks for the real one: a sheet of full size takes half a second."""

from __future__ import annotations

import pytest

from brats_seg.report import scene

FULL_PANEL_PX = scene.PANEL_PX


@pytest.fixture(scope="module", autouse=True)
def small_panels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "PANEL_PX", 300)
        yield


@pytest.fixture
def full_panels(monkeypatch):
    monkeypatch.setattr(scene, "PANEL_PX", FULL_PANEL_PX)
