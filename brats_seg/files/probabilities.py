"""Reading probabilities back from the 4D file that :func:`brats_seg.files.write.write_probabilities` writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps
from brats_seg.files.header import NiftiFile, sizes_text
from brats_seg.files.sidecar import sidecar_path


def read_probabilities(path: Path, regions: RegionSet) -> RegionMaps:
    """Probabilities of each region, whatever order the file has them in.

    Args:
        path: a NIfTI file ``(X, Y, Z, R)``; the ``.json`` beside it says in ``LabelMap`` which volume is which region,
            as BIDS demands.
        regions: it has to hold.

    Raises:
        InputError: if the file is not such a file, its order is not known, or a value lies outside 0 to 1.
    """
    order = _label_map(path, regions)
    file = NiftiFile.read(path)
    sizes = file.sizes()
    if len(sizes) != 4 or sizes[3] != len(regions):
        raise file.refuse(f"it is {sizes_text(sizes)}; probabilities are one 4D file of {len(regions)} volumes.")
    x, y, z, count = sizes
    forms = file.forms()
    affine = np.asarray(file.header.get_sform(), np.float64) if forms.sform_code > 0 else forms.qform
    if affine is None:
        raise file.refuse("its header has no orientation (qform and sform codes are both 0). Write it again.")
    slope, intercept = file.slope_intercept()
    stored = file.voxels((x, y, z * count)).reshape((x, y, z, count), order="F")
    array = np.empty((count, x, y, z), np.float32)
    for channel, region in enumerate(regions):
        volume = stored[..., order.index(region.name)]
        array[channel] = volume.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):
        raise file.refuse(f"its values run from {low:g} to {high:g}; probabilities are 0 to 1.")
    return RegionMaps(array, Grid((x, y, z), affine), regions)


def _label_map(path: Path, regions: RegionSet) -> list[str]:
    beside = sidecar_path(path)
    try:
        content = json.loads(beside.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{beside.name}, which says what the volumes of {path.name} are, cannot be read ({type(error).__name__}). "
            "Restore it, or move the probabilities away to do without them."
        ) from error
    order = content.get("LabelMap") if isinstance(content, dict) else None
    wanted = sorted(regions.names)
    if not isinstance(order, list) or sorted(map(str, order)) != wanted:
        raise InputError(f"{beside.name} has LabelMap {order}; it has to name {', '.join(wanted)}, once each.")
    return [str(name) for name in order]
