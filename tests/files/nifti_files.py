"""Small NIfTI files, good and bad, for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.array([[-1.0, 0, 0, 10], [0, -1.0, 0, 20], [0, 0, 2.0, -5], [0, 0, 0, 1]])


def scan(seed: int = 0, shape: tuple[int, ...] = (9, 8, 7)) -> np.ndarray:
    """An image with many values, some of them 0."""
    values = np.random.default_rng(seed).integers(-50, 2000, shape).astype(np.int16)
    values.flat[: values.size // 3] = 0
    return values


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, *, codes: tuple[int, int] = (1, 1)) -> Path:
    """Write with nibabel, so that reading is tested against another writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=codes[0])
    image.set_sform(affine, code=codes[1])
    nib.save(image, path)
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite header bytes of an uncompressed file."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(bytes(raw))
    return path


def study(folder: Path, names: dict[str, int] | None = None) -> Path:
    """A folder of scans; by default one of each sequence with BraTS names."""
    chosen = names or {f"{folder.name}_{s}.nii.gz": i for i, s in enumerate(("t1", "t1ce", "t2", "flair"))}
    for name, seed in chosen.items():
        save(folder / name, scan(seed))
    return folder
