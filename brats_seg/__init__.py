"""Brain tumour regions, volumes and their course from MRI.

The Python interface: ``segment_study`` and ``measure`` for one visit, ``follow_visits`` for the visits of a patient in
memory, ``track_patient`` for those in a folder, ``respond`` for a table of measurements. They return the values of
:mod:`brats_seg.core.visit`, :mod:`brats_seg.core.course` and :mod:`brats_seg.response.responses`. Importing the
package loads no heavy library; calling a function does.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing, whose import takes longer than all else until Ctrl-C is answered
if TYPE_CHECKING:
    from typing import Any

    from brats_seg.core.course import Course
    from brats_seg.core.visit import Visit
    from brats_seg.run.masks import measure
    from brats_seg.run.options import SegmentOptions
    from brats_seg.run.respond import respond
    from brats_seg.run.segment import open_predictor as open_model
    from brats_seg.run.segment import segment_study
    from brats_seg.run.track import track_patient
    from brats_seg.track.tables import follow_visits

__version__ = "0.2.0"

__all__ = [
    "Course",
    "SegmentOptions",
    "Visit",
    "__version__",
    "follow_visits",
    "measure",
    "open_model",
    "respond",
    "segment_study",
    "track_patient",
]

_HOMES = {
    **{"Visit": "core.visit", "Course": "core.course", "follow_visits": "track.tables"},
    **{"SegmentOptions": "run.options", "measure": "run.masks", "respond": "run.respond"},
    **{"open_model": "run.segment", "segment_study": "run.segment", "track_patient": "run.track"},
}


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'brats_seg' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - heavy, so only when used

    return getattr(import_module(f"brats_seg.{_HOMES[name]}"), "open_predictor" if name == "open_model" else name)
