"""Values survive JSON, and what is no such value is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.core.plain import from_plain, plain


class Kind(StrEnum):
    ONE = "one"


@dataclass(frozen=True)
class Inner:
    size: float
    ends: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Outer:
    name: str
    count: int
    is_large: bool
    matrix: NDArray[np.float64]
    by_kind: Mapping[Kind, Inner]
    day: date | None = None
    inner: Inner | None = None
    more: tuple[Inner, ...] = field(default=())


FULL = Outer("a", 3, True, np.eye(2) / 3, {Kind.ONE: Inner(0.1 + 0.2)}, date(2024, 2, 29), Inner(math.nan, ((1, 2.5),)))


def test_a_value_survives_json() -> None:
    again = from_plain(Outer, json.loads(json.dumps(plain(FULL), allow_nan=False)))
    assert (again.name, again.count, again.is_large, again.day, again.more) == ("a", 3, True, FULL.day, ())
    assert np.array_equal(again.matrix, FULL.matrix) and again.by_kind == FULL.by_kind
    assert again.inner is not None and math.isnan(again.inner.size) and again.inner.ends == ((1.0, 2.5),)


def test_a_field_of_a_later_version_is_not_read_and_one_with_a_default_may_lack() -> None:
    assert from_plain(Inner, {"size": 1, "later": "x"}) == Inner(1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "has no size"),
        ({"size": "big"}, r"Inner\.size is 'big'"),
        ({"size": True}, r"Inner\.size is True"),
        ({"size": 1.0, "ends": [[1.0]]}, "zip"),
        ([], r"Inner is \[\]"),
    ],
)
def test_what_does_not_fit_is_named(values: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_plain(Inner, values)


def test_a_path_is_in_no_record() -> None:
    with pytest.raises(TypeError, match="path"):
        plain({"where": Path("/home/anna")})
