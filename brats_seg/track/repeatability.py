"""How much two measurements of an unchanged tumour differ, and whether a change is larger than that.

The within-subject coefficient of variation by volume and slice thickness is a table (``repeatability.csv``), measured
on phantoms and labelled so. For a model, by name and version, bodies were scanned and segmented twice; for label maps
that were given, the true outline was put on the grids of two scans, which is digitisation alone: a reader's scatter is
not known. The error of a model that was not measured is not known, and no verdict on its changes is given.
Two volumes differ by more than measurement error where their difference exceeds
``1.96 sqrt(s1^2 + s2^2)`` with ``s = cv(V) V``; for equal volumes that is the repeatability coefficient,
``1.96 sqrt(2) cv`` (Bland and Altman, Stat Methods Med Res 1999;8:135, doi:10.1177/096228029900800204; Raunig et al.,
Stat Methods Med Res 2015;24:27, doi:10.1177/0962280214537344).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

QUANTILE = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""

SMALLEST_ML = 0.05
"""Below this the error of a volume is that of this volume, absolutely: a voxel more or less is no percentage."""

TABLE = Path(__file__).with_name("repeatability.csv")
GIVEN = "given"
"""The source of a label map that no model made."""
ALSO_OF = {"glioma 0.7.0": "glioma 0.6.0", "glioma 0.7.1": "glioma 0.6.0"}
"""Versions whose repeated scans agree as well as those of the one in the table (experiments/volumetry/results.md)."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        source: name and version of the model that made the label maps, or :data:`GIVEN`.
        cv: within-subject coefficient of variation.
    """

    source: str
    slice_mm: float
    volume_ml: float
    cv: float


@dataclass(frozen=True)
class Change:
    """The difference of two volumes.

    Attributes:
        before_ml: the volume compared with.
        low_ml: lower end of the change's 95 % interval; None where the error is not known.
        larger_than_error: whether 0 lies outside the interval; None where the error is not known.
    """

    before_ml: float
    now_ml: float
    low_ml: float | None
    high_ml: float | None
    larger_than_error: bool | None

    @property
    def change_ml(self) -> float:
        """Now minus before."""
        return self.now_ml - self.before_ml

    def of_before(self, value_ml: float | None) -> float | None:
        """A volume as a percentage of the one before; None where that is 0."""
        return 100.0 * value_ml / self.before_ml if self.before_ml > 0 and value_ml is not None else None


@lru_cache(maxsize=1)
def table() -> tuple[Row, ...]:
    """The rows of the data file."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    numbers = ("slice_mm", "volume_ml", "cv")
    return tuple(Row(cells["source"], *(float(cells[name]) for name in numbers)) for cells in csv.DictReader(lines))


@dataclass(frozen=True)
class Measured:
    """A volume as it was measured.

    Attributes:
        slice_mm: largest spacing of the grid it was measured on.
    """

    volume_ml: float
    slice_mm: float
    source: str

    @property
    def sd_ml(self) -> float | None:
        """Standard deviation of the measurement, never less than that of :data:`SMALLEST_ML`; None if not known."""
        size = max(self.volume_ml, SMALLEST_ML)
        cv = volume_cv(size, self.slice_mm, source=self.source)
        return None if cv is None else cv * size

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """95 % interval from measurement error alone, ml."""
        if self.sd_ml is None:
            return None, None
        half = QUANTILE * self.sd_ml
        return max(self.volume_ml - half, 0.0), self.volume_ml + half


def error_words(source: str) -> str:
    """Where the error of a volume comes from, by the source of its label map."""
    if source == GIVEN:
        return "digitisation alone, phantom-based"
    measured = ALSO_OF.get(source, source)
    if measured not in {row.source for row in table()}:
        return f"not known for {source}"
    return f"repeatability of {measured}, phantom-based"


def volume_cv(volume_ml: float, slice_mm: float, *, source: str) -> float | None:
    """Within-subject coefficient of variation of a volume.

    Linear in the logarithm of volume and in slice thickness between the table's entries, constant beyond them; None
    where the table has no entry for the source.

    Args:
        slice_mm: largest spacing of the grid it was measured on.
    """
    measured = ALSO_OF.get(source, source)
    chosen = [row for row in table() if row.source == measured]
    if not chosen:
        return None
    thicknesses = sorted({row.slice_mm for row in chosen})
    values = []
    for thickness in thicknesses:
        part = sorted((row.volume_ml, row.cv) for row in chosen if row.slice_mm == thickness)
        logs = [math.log(volume) for volume, _ in part]
        values.append(float(np.interp(math.log(max(volume_ml, SMALLEST_ML)), logs, [cv for _, cv in part])))
    return float(np.interp(slice_mm, thicknesses, values))


def change_between(before: Measured, now: Measured) -> Change:
    """The change from one volume to another, and whether it is larger than measurement error."""
    change = now.volume_ml - before.volume_ml
    if before.sd_ml is None or now.sd_ml is None:
        return Change(before.volume_ml, now.volume_ml, None, None, None)
    half = QUANTILE * math.hypot(before.sd_ml, now.sd_ml)
    return Change(before.volume_ml, now.volume_ml, change - half, change + half, abs(change) > half)
