"""Brain tumour regions, volumes and their course from four MRI sequences.

``segment_study`` and ``measure`` are the whole of the Python interface for most uses; both return the values
of :mod:`brats_seg.core.visit`. Importing the package loads no heavy library; calling a function does.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing, whose import takes longer than all else until Ctrl-C is answered
if TYPE_CHECKING:
    from typing import Any

    from brats_seg.run import SegmentOptions, measure, segment_study

__version__ = "0.2.0"

__all__ = ["SegmentOptions", "__version__", "measure", "segment_study"]


def __getattr__(name: str) -> Any:
    if name in ("SegmentOptions", "measure", "segment_study"):
        from brats_seg import run  # noqa: PLC0415 - heavy, so only when used

        return getattr(run, name)
    raise AttributeError(f"module 'brats_seg' has no attribute {name!r}")
