"""Numbers in words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from glioma import REGIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from report_studies import make_result

from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS, STRUCTURES
from brats_seg.core.visit import RegionVolume
from brats_seg.report import tables


@pytest.mark.parametrize(
    ("volume_ml", "words"),
    [
        (0.0, "0"),
        (0.001, "< 0.01"),
        (0.0051, "0.01"),
        (0.374, "0.37"),
        (0.999, "1.0"),
        (4.24, "4.2"),
        (56.54, "56.5"),
        (99.96, "100"),
        (123.4, "123"),
        (None, "not known"),
        (math.nan, "not known"),
    ],
)
def test_volumes_keep_about_three_digits(volume_ml, words):
    assert tables.ml(volume_ml) == words


@given(st.floats(0.005, 5000))
@settings(max_examples=60)
def test_a_volume_in_words_is_within_one_percent_or_a_hundredth(volume_ml):
    assert abs(float(tables.ml(volume_ml)) - volume_ml) <= max(0.0501, 0.01 * volume_ml)


def row(**changes):
    values = RegionVolume("WT", 56.5, 57.0, 50.2, 62.9, 0.9, 1, False)
    return replace(values, **changes)


def test_intervals():
    assert tables.interval(row()) == "50 to 63"
    assert tables.interval(row(low_ml=3.74, high_ml=4.51)) == "3.7 to 4.5"
    assert tables.interval(row(low_ml=0.0, high_ml=0.231)) == "0.00 to 0.23"
    assert tables.interval(row(low_ml=None, high_ml=None, level=None)) == "not known"


def test_lengths_places_and_checksums():
    assert (tables.mm(41.6), tables.mm(9.97), tables.mm(7.46)) == ("42", "10", "7.5")
    assert tables.short_hash("0123456789abcdef") == "0123456789ab"
    assert tables.short_hash("") == "not known"
    assert (tables.percent(0.9), tables.percent(0.975)) == ("90 %", "97.5 %")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not known"),
        ({}, "not known"),
        (True, "yes"),
        (0.83333, "0.8333"),
        ({"WT": 0.83, "hd95_mm": 6}, "WT 0.83, hd95 mm 6"),
        ({"dice": {"WT": 0.83, "ET": 0.5}, "cases": 8}, "dice: WT 0.83, ET 0.5; cases 8"),
        (["a", "b"], "a, b"),
        (("not after surgery", "adults"), "not after surgery; adults"),
        (("Not after surgery.", "Adults only."), "Not after surgery; Adults only"),
        ({"Dice": "WT 0.9, TC 0.8", "HD95": "WT 5"}, "Dice WT 0.9, TC 0.8; HD95 WT 5"),
    ],
)
def test_any_value_in_one_line(value, words):
    assert tables.plain(value) == words


def test_sentences_are_said_once():
    assert tables.unique(["t2 was thick", "T2 was thick.", "", "Really?"]) == ("T2 was thick.", "Really?")


def test_meaning_follows_the_schema():
    assert tables.meaning("TC", REGIONS, DEFAULT_SCHEMA) == "necrotic tumour core + enhancing tumour"
    assert "cystic component" in tables.meaning("WT", REGIONS, SCHEMAS["brats2024ped"])
    assert tables.meaning("ET", REGIONS, DEFAULT_SCHEMA) == tables.meaning("NCR", REGIONS, DEFAULT_SCHEMA) == ""


def test_reservations_of_a_volume():
    at_edge = row(touches_border=True, note="estimate")
    assert tables.reservations(at_edge) == "estimate; reaches the edge of the image, may be cut off"
    assert tables.reservations(replace(at_edge, volume_ml=0.0, note="")) == ""
    assert tables.reservations(row(low_ml=0.0, high_ml=170.0)) == "very uncertain"


@given(st.dictionaries(st.sampled_from(["ET", "WT", "RC"]), st.integers(1, 40), min_size=1), st.integers(3, 12))
@settings(max_examples=40)
def test_rows_are_shared_out_evenly(counts, total):
    shares = tables._share_out(counts, total)
    assert sum(shares.values()) == min(total, sum(counts.values()))
    assert all(1 <= shares[name] <= counts[name] for name in counts)
    cut_short = [shares[name] for name in counts if shares[name] < counts[name]]
    assert not cut_short or max(shares.values()) - min(cut_short) <= 1


def test_many_lesions_are_cut_to_ten_rows_and_the_rest_is_counted():
    result = make_result()
    lesion = result.measurements.lesions_of("WT")[0]
    many = tuple(replace(lesion, number=n + 1, volume_ml=5.0) for n in range(300))
    specks = tuple(replace(lesion, number=n + 301, volume_ml=0.01) for n in range(50))
    groups = tables.lesion_groups(replace(result.measurements, lesions=many + specks), REGIONS)
    assert [name for name, _, _ in groups] == ["WT"]
    assert len(groups[0][1]) == tables.LESION_ROWS
    assert groups[0][2] == "and 340 smaller, 1450 ml together"


def test_specks_are_not_listed_unless_there_is_nothing_else():
    result = make_result()
    lesion = result.measurements.lesions_of("ET")[0]
    real = replace(lesion, volume_ml=1.0)
    speck = replace(lesion, number=2, volume_ml=tables.SPECK_ML)
    both = tables.lesion_groups(replace(result.measurements, lesions=(real, speck)), REGIONS)
    alone = tables.lesion_groups(replace(result.measurements, lesions=(speck,)), REGIONS)
    assert [lesion.number for lesion in both[0][1]] == [1]
    assert both[0][2] == "and 1 smaller, 0.05 ml together"
    assert len(alone[0][1]) == 1
    assert alone[0][2] == ""


def test_structures_of_one_label_map_have_colours_of_their_own():
    for schema in SCHEMAS.values():
        assert len({structure.colour for structure in schema.values.values()}) == len(schema.values)
    colours = [structure.colour for structure in STRUCTURES.values()]
    assert {REGIONS.colours["WT"], REGIONS.colours["TC"], REGIONS.colours["ET"]} <= set(colours)
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)
