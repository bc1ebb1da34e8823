"""What a run says of itself: versions, model, memory."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import brats_seg
from brats_seg.files.sidecar import TRAINED_ON_KEY
from brats_seg.models.card import ModelBundle

LIBRARIES = ("numpy", "scipy", "torch", "monai", "nibabel", "SimpleITK", "openvino", "connected-components-3d")


def model_summary(bundle: ModelBundle, *, trained_on_this_study: bool | None = None) -> dict[str, Any]:
    """What a result says of its model.

    Args:
        trained_on_this_study: whether the study was among those it was trained on; None where the card does not tell.
    """
    card = bundle.card
    return {
        **{key: getattr(card, key) for key in ("name", "version", "trained_on", "licence", "knows_treated_brains")},
        "sha256": bundle.sha256,
        "thresholds": {region.name: card.postprocess.threshold(region) for region in card.regions},
        **({} if trained_on_this_study is None else {TRAINED_ON_KEY: trained_on_this_study}),
    }


_OTHER_ROOMS = frozenset({"cli", "evaluate", "explore", "exchange", "phantom", "train"})
"""Of the package, what takes no part in a result of a patient."""
_CODE = frozenset({".py", ".csv", ".j2"})


@cache
def code_fingerprint() -> str:
    """Checksum of the program's own files that a result can depend on, 16 digits.

    The version alone does not do: two working copies bear the same one.
    """
    package = Path(brats_seg.__file__).parent
    found = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        place = path.relative_to(package)
        if path.suffix in _CODE and place.parts[0] not in _OTHER_ROOMS:
            found.update(f"{place.as_posix()}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of the program, Python and the libraries that take part."""
    return {
        "brats_seg": brats_seg.__version__,
        "brats_seg_code": code_fingerprint(),
        "python": sys.version.split()[0],
        **{name: installed(LIBRARIES).get(name, "not installed") for name in LIBRARIES},
    }


@cache
def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of the libraries that are installed, looked for once in a process."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # Linux; there, the peak that getrusage tells starts at that of the program that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) / 2**10
    import resource  # noqa: PLC0415 - not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)
