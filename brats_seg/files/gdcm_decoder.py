"""JPEG lossless images decoded in a process of their own, because GDCM ends the process where such an image is damaged.

GDCM is the one decoder of this compression whose licence lets a package depend on it. Run as a program it reads DICOM
files from standard input and writes their values to standard output; :func:`decode_apart` is the other end.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from brats_seg.core.grid import Array

SECONDS = 120.0
"""A series that takes longer is damaged; one of 500 large images takes 15."""


def decode_apart(files: Sequence[bytes]) -> list[Array]:
    """Stored values ``([frames,] rows, columns)`` of DICOM files, decoded in another process.

    Raises:
        ValueError: if one cannot be decoded.
    """
    content = b"".join(struct.pack("<Q", len(raw)) + raw for raw in files)
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=SECONDS)
    except subprocess.SubprocessError as error:
        raise ValueError("a compressed image cannot be decoded") from error
    stream = io.BytesIO(done.stdout)
    return [np.load(stream, allow_pickle=False) for _ in files]


def main() -> None:
    """Decode the files on standard input; damaged ones end the process."""
    import gdcm  # noqa: PLC0415 - only in the process that decodes
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    while head := sys.stdin.buffer.read(8):
        raw = sys.stdin.buffer.read(struct.unpack("<Q", head)[0])
        values = pixel_array(dcmread(io.BytesIO(raw), force=True), raw=True, decoding_plugin="gdcm")
        np.save(sys.stdout.buffer, values)


if __name__ == "__main__":
    main()
