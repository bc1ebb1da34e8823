"""The NIfTI headers of nibabel, loaded without pydicom.

nibabel looks for pydicom to decode DICOM stored in a header extension, which nothing here reads. Loading it takes more
than half of nibabel's own time: 0.94 CPU seconds with it, 0.36 without.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from threading import get_ident

__all__ = ["HeaderDataError", "Nifti1Header", "Nifti2Header"]


class _WithoutPydicom(MetaPathFinder):
    """Lets one thread find no pydicom; others may load it meanwhile."""

    def __init__(self) -> None:
        self.thread = get_ident()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pydicom" and get_ident() == self.thread:
            raise ModuleNotFoundError("pydicom is not needed for NIfTI headers", name=fullname)


_without = _WithoutPydicom()
sys.meta_path.insert(0, _without)
try:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError
finally:
    sys.meta_path.remove(_without)
