"""Visits in memory become a course, in whatever order a program passes them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from glioma import REGIONS

import brats_seg
from brats_seg import follow_visits
from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.study import Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.volumetrics.measure import measure_segmentation


def visit(day: date, size: int) -> Visit:
    """A label map of an enhancing cube; side in voxels of 1 mm."""
    numbers = np.zeros((40, 40, 40), np.uint8)
    numbers[10 : 10 + size, 10 : 10 + size, 10 : 10 + size] = 3
    label = day.isoformat()
    drawn = Segmentation(label, Volume.from_affine(numbers, np.eye(4)), DEFAULT_SCHEMA, REGIONS)
    return Visit(Timepoint(f"P_{label}", {}, label=label, day=day), drawn, measure_segmentation(drawn),
                 record=RunRecord(label, {}))  # fmt: skip


def test_dated_visits_are_followed_in_the_order_of_their_dates() -> None:
    visits = [visit(date(2024, month, 1), size) for month, size in ((1, 12), (3, 14), (6, 18))]
    expected = follow_visits(visits, "P").to_dict()
    assert [
        row["category"] for row in expected["responses"] if (row["compartment"], row["measure"]) == ("overall", "2d")
    ] == ["baseline", "PD", "PD"]
    assert follow_visits(visits[::-1], "P").to_dict() == expected


def test_no_visit_is_nothing_to_follow() -> None:
    with pytest.raises(InputError, match="no visit"):
        follow_visits([], "P")


def test_what_the_package_offers_is_listed_without_loading_it() -> None:
    assert set(brats_seg.__all__) <= set(dir(brats_seg))
