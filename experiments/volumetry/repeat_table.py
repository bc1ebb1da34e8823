"""The table of measurement error that changes are held against, from phantoms scanned and segmented twice.

``python -m experiments.volumetry`` makes the trials; what comes out here is the data file of
:mod:`brats_seg.track.repeatability`. Regions are pooled: size and slice thickness matter more than the region.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from brats_seg.core.errors import InputError
from experiments.volumetry.statistics import repeatability
from experiments.volumetry.trials import SAME_SCANNER

SIZES_ML = (0.0, 5.0, 20.0, np.inf)
"""Limits of the classes of measured volume that are pooled."""
FEWEST_PAIRS = 4
"""Smaller classes are left out; the lookup goes on with the next."""
HEAD = """\
# Within-subject coefficient of variation of a volume measured twice; one row per slice thickness and size.
# Phantom-based: {patients} phantom patients scanned twice under each condition with new noise, coil, contrast, place
# and tilt. {model}: each scan segmented by it. given: the true outline on each scan's grid (digitisation alone).
# volume_ml: geometric mean of the class; cv of the logarithms.
source,slice_mm,volume_ml,cv,pairs
"""


def repeatability_csv(trials: pd.DataFrame, *, model: str) -> str:
    """The data file from a table of trials.

    Args:
        trials: rows of :func:`experiments.volumetry.trials.run_trials`.
        model: name and version of what segmented.

    Raises:
        InputError: if no class has :data:`FEWEST_PAIRS` pairs.
    """
    # What is found where there is nothing is no measurement of a tumour, and no one can rely on the same scanner.
    twice = trials[~trials["condition"].isin(["fresh", SAME_SCANNER.name]) & (trials["true_ml"] > 0)]
    lines = [*_rows(twice, "found_ml", model), *_rows(twice, "label_map_ml", "given")]
    return HEAD.format(patients=twice["patient"].nunique(), model=model) + "\n".join(lines) + "\n"


def _rows(twice: pd.DataFrame, column: str, source: str) -> list[str]:
    keys = ["patient", "condition", "slice_mm", "region"]
    wide = twice.pivot_table(index=keys, columns="scan", values=column).dropna().reset_index()
    wide = wide[(wide[1] > 0) & (wide[2] > 0)]
    middle = np.sqrt(wide[1] * wide[2])
    lines = []
    for slice_mm in sorted(wide["slice_mm"].unique()):
        for low, high in zip(SIZES_ML, SIZES_ML[1:], strict=False):
            chosen = wide[(wide["slice_mm"] == slice_mm) & (middle >= low) & (middle < high)]
            if len(chosen) < FEWEST_PAIRS:
                continue
            found = repeatability(chosen[1], chosen[2])
            size = float(np.exp(np.log(middle[chosen.index]).mean()))
            lines.append(f"{source},{slice_mm:g},{size:.3g},{found.cv_percent / 100:.4f},{found.pairs}")
    if not lines:
        raise InputError(f"no class of size has {FEWEST_PAIRS} pairs of scans; scan more phantoms twice")
    return lines
