"""Composes the rooms: segment one study, measure one label map.

Example:
    A study of four files in a folder, results in ``out/<name of the folder>``::

        from brats_seg import SegmentOptions, segment_study

        result = segment_study("patients/case_0042", "out", options=SegmentOptions(labels="brats2021"))
        print(result.measurements.volume("WT").volume_ml)

Importing this package loads nothing heavy; torch and MONAI come with the first use of what needs them, so that
measuring a label map does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brats_seg.files.label_map import MaskReading, read_mask
    from brats_seg.models.record import model_summary, peak_memory_mib, versions
    from brats_seg.run.masks import measure, write_measurements
    from brats_seg.run.options import STEPS, SegmentOptions
    from brats_seg.run.resume import reason_to_redo
    from brats_seg.run.segment import open_predictor, prepare_config, segment_study

__all__ = [
    "STEPS",
    "MaskReading",
    "SegmentOptions",
    "measure",
    "model_summary",
    "open_predictor",
    "peak_memory_mib",
    "prepare_config",
    "read_mask",
    "reason_to_redo",
    "segment_study",
    "versions",
    "write_measurements",
]

_HOMES = {
    "brats_seg.files.label_map": ("MaskReading", "read_mask"),
    "brats_seg.run.masks": ("measure", "write_measurements"),
    "brats_seg.run.options": ("STEPS", "SegmentOptions"),
    "brats_seg.models.record": ("model_summary", "peak_memory_mib", "versions"),
    "brats_seg.run.resume": ("reason_to_redo",),
    "brats_seg.run.segment": ("open_predictor", "prepare_config", "segment_study"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
