"""Label schemas: the number 4 means three things, and nothing is guessed where it is not certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from glioma import ET, REGIONS, TC, WT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brats_seg.core.errors import InputError
from brats_seg.core.labels import SCHEMAS, Structure, present_values, schema_named

S = Structure
GLIOMA = ("brats2023", "brats2021", "brats2024", "nnunet")


def by_hand(masks: dict[Any, np.ndarray], place: int) -> Structure | None:
    """What one voxel holds, from the definition of the regions."""
    if not masks[WT][place]:
        return None
    if not masks[TC][place]:
        return S.ED
    return S.ET if masks[ET][place] else S.NCR


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.bool_, (3, 12)), st.sampled_from(GLIOMA))
def test_compose_gives_each_voxel_its_structure(arrays: np.ndarray, name: str) -> None:
    schema = SCHEMAS[name]
    masks = dict(zip(REGIONS, arrays, strict=True))
    labels = REGIONS.compose(masks, schema)
    assert labels.dtype == np.uint8
    for place, number in enumerate(labels.tolist()):
        expected = by_hand(masks, place)
        assert number == (0 if expected is None else schema.number(expected))


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.bool_, (3, 12)), st.sampled_from(GLIOMA))
def test_composed_regions_read_back_nested(arrays: np.ndarray, name: str) -> None:
    schema = SCHEMAS[name]
    labels = REGIONS.compose(dict(zip(REGIONS, arrays, strict=True)), schema)
    whole, core, enhancing = (schema.region_mask(labels, region) for region in REGIONS)
    np.testing.assert_array_equal(whole, arrays[0])
    np.testing.assert_array_equal(core, arrays[0] & arrays[1])
    np.testing.assert_array_equal(enhancing, arrays[0] & arrays[1] & arrays[2])


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, 20, elements=st.integers(0, 3)), st.sampled_from(GLIOMA))
def test_converting_keeps_every_structure(labels: np.ndarray, name: str) -> None:
    source, target = SCHEMAS["brats2023"], SCHEMAS[name]
    converted = source.convert(labels, target)
    for structure in (S.NCR, S.ED, S.ET):
        np.testing.assert_array_equal(
            target.structure_mask(converted, structure), source.structure_mask(labels, structure)
        )
    np.testing.assert_array_equal(target.convert(converted, source), labels)


@pytest.mark.parametrize(
    ("name", "whole", "core", "enhancing"),
    [
        ("brats2023", {1, 2, 3}, {1, 3}, {3}),
        ("brats2021", {1, 2, 4}, {1, 4}, {4}),
        ("brats2024", {1, 2, 3}, {1, 3}, {3}),  # 4 is the resection cavity, outside every region
        ("brats2024ped", {1, 2, 3, 4}, {1, 2, 3}, {1}),
        ("brats2015", {1, 2, 3, 4}, {1, 3, 4}, {4}),
        ("msd", {1, 2, 3}, {2, 3}, {3}),
        ("nnunet", {1, 2, 3}, {2, 3}, {3}),
        ("menrt", {1}, {1}, set()),
        ("hdglio", {1, 2}, {2}, {2}),  # the core is not told, see below
        ("whole", {1}, set(), set()),
    ],
)
def test_regions_of_every_year(name: str, whole: set[int], core: set[int], enhancing: set[int]) -> None:
    labels = np.arange(5)
    for region, expected in ((WT, whole), (TC, core), (ET, enhancing)):
        assert set(np.flatnonzero(SCHEMAS[name].region_mask(labels, region))) == expected


def test_no_schema_has_been_left_out_of_the_table_above() -> None:
    assert set(SCHEMAS) == {
        "brats2023",
        "brats2021",
        "brats2024",
        "brats2024ped",
        "brats2015",
        "msd",
        "nnunet",
        "menrt",
        "hdglio",
        "whole",
    }


def test_regions_that_a_schema_does_not_tell() -> None:
    told = {name: tuple(region.name for region in REGIONS.told_by(schema)) for name, schema in SCHEMAS.items()}
    assert told.pop("whole") == ("WT",)
    assert told.pop("hdglio") == ("WT", "ET")
    assert told.pop("menrt") == ("WT", "TC")
    assert set(told.values()) == {("WT", "TC", "ET")}


def test_unknown_numbers_are_named() -> None:
    with pytest.raises(InputError, match=r"holds \[4, 7\].*brats2023 does not know.*--schema"):
        SCHEMAS["brats2023"].check(np.array([0, 1, 4, 7]))


def test_a_structure_the_target_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="brats2023 has no number for resection cavity"):
        SCHEMAS["brats2024"].convert(np.array([0, 4]), SCHEMAS["brats2023"])
    assert SCHEMAS["brats2024"].convert(np.array([0, 3]), SCHEMAS["brats2021"]).tolist() == [0, 4]


@pytest.mark.parametrize("wrong", [np.array([0.5, 1.0]), np.array([np.nan]), np.array([-1, 2])])
def test_images_are_no_label_maps(wrong: np.ndarray) -> None:
    with pytest.raises(InputError):
        present_values(wrong)


def test_whole_numbers_may_be_stored_as_floats() -> None:
    assert present_values(np.array([0.0, 2.0, 4.0], np.float32)) == {2, 4}


def test_an_unknown_schema_name_lists_those_that_exist() -> None:
    assert schema_named("msd") is SCHEMAS["msd"]
    with pytest.raises(InputError, match=r"'brats2019'.*brats2021"):
        schema_named("brats2019")
