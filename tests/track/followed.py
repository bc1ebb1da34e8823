"""Visits in memory with volumes, and nothing else that a course is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
from glioma import REGIONS

from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA
from brats_seg.core.study import SEQUENCES, MRSequence, Timepoint
from brats_seg.core.visit import Measurements, RegionVolume, RunRecord, Segmentation, Visit

EMPTY = Volume.from_affine(np.zeros((1, 1, 1), np.uint8), np.eye(4))


def measured_visit(
    label: str,
    day: date | None,
    volumes_ml: Mapping[str, float],
    *,
    model: str = "glioma 0.7.0",
    knows_treatment: bool = False,
    sequences: Sequence[MRSequence] = SEQUENCES,
) -> Visit:
    """A visit of a model, or of a label map that was given where that has no name."""
    rows = [RegionVolume(name, ml, None, None, None, None, 1, touches_border=False) for name, ml in volumes_ml.items()]
    name, _, version = model.partition(" ")
    about = {"name": name, "version": version, "knows_treated_brains": knows_treatment} if model else {}
    return Visit(
        timepoint=Timepoint(f"P_{label}", {}, label=label, day=day),
        segmentation=Segmentation(label, EMPTY, DEFAULT_SCHEMA, REGIONS),
        measurements=Measurements(label, tuple(rows), (), (1.0, 1.0, 1.0)),
        record=RunRecord(label, {}, model=about),
        images=dict.fromkeys(sequences, EMPTY),
    )
