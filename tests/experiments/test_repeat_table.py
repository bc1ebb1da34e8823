"""From pairs of measurements to the data file, with known scatter."""

from __future__ import annotations

import csv
import math

import numpy as np
import pandas as pd
import pytest

from brats_seg.core.errors import InputError
from experiments.volumetry.repeat_table import repeatability_csv
from experiments.volumetry.trials import SAME_SCANNER


def trials(pairs: int, *, sd: float, volume_ml: float, slice_mm: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"patient": f"p{n}", "condition": f"{slice_mm:g} mm", "slice_mm": slice_mm, "region": "ET", "scan": scan,
         "true_ml": volume_ml,
         "found_ml": volume_ml * math.exp(rng.normal(0, sd)),
         "label_map_ml": volume_ml * math.exp(rng.normal(0, sd / 10))}
        for n in range(pairs) for scan in (1, 2)
    )  # fmt: skip


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def test_a_known_scatter_comes_back() -> None:
    table = pd.concat([trials(400, sd=0.1, volume_ml=10), trials(400, sd=0.3, volume_ml=300, slice_mm=5)])
    found = rows(repeatability_csv(table, model="m 1"))
    assert [(row["source"], row["slice_mm"], row["pairs"]) for row in found] == [
        (source, slice_mm, "400") for source in ("m 1", "given") for slice_mm in ("1", "5")
    ]
    assert float(found[0]["cv"]) == pytest.approx(0.1, rel=0.1)
    assert float(found[1]["cv"]) == pytest.approx(math.sqrt(math.expm1(0.09)), rel=0.1)
    assert float(found[2]["cv"]) == pytest.approx(0.01, rel=0.1)
    assert float(found[0]["volume_ml"]) == pytest.approx(10, rel=0.02)


def test_scans_in_which_nothing_was_found_are_left_out() -> None:
    table = trials(10, sd=0.1, volume_ml=10)
    table.loc[0, "found_ml"] = 0.0
    assert rows(repeatability_csv(table, model="m"))[0]["pairs"] == "9"


def test_what_is_found_where_there_is_nothing_does_not_count() -> None:
    table = trials(10, sd=0.1, volume_ml=10)
    table.loc[table["patient"] == "p3", "true_ml"] = 0.0
    assert rows(repeatability_csv(table, model="m"))[0]["pairs"] == "9"


def test_two_scans_on_one_scanner_are_left_out_since_no_one_can_rely_on_that() -> None:
    table = pd.concat([trials(10, sd=0.1, volume_ml=10), trials(10, sd=0.001, volume_ml=10)])
    table["condition"] = ["1 mm"] * 20 + [SAME_SCANNER.name] * 20
    assert repeatability_csv(table, model="m") == repeatability_csv(trials(10, sd=0.1, volume_ml=10), model="m")


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="scan more phantoms twice"):
        repeatability_csv(trials(3, sd=0.1, volume_ml=10), model="m")
