"""How much memory a network pass needs, stated before it starts."""

from __future__ import annotations

import psutil

from brats_seg.core.errors import DeviceError

BYTES_PER_INPUT_VOXEL = {"torch": 150.0, "openvino": 280.0}
"""Peak bytes of one pass per voxel of its input. The process's peak memory grew by 132 and 136 (PyTorch), 239 and 267
(OpenVINO) over one pass of the shipped network at 144x176x144 and 96x96x96 voxels; rounded up."""

RESERVE_BYTES = 512 * 2**20
"""Left for everything else."""


def pass_bytes(shape: tuple[int, int, int], engine: str, *, scale: float = 1.0) -> float:
    """Estimated peak memory of one pass over ``shape`` voxels, in bytes.

    Args:
        shape: of the input.
        engine: ``torch`` or ``openvino``.
        scale: what the network needs per voxel, as a multiple of the shipped one.
    """
    return float(shape[0] * shape[1] * shape[2]) * BYTES_PER_INPUT_VOXEL[engine] * scale


def available_bytes(device: str) -> float:
    """Free memory of the device a pass would use, in bytes."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - only with a GPU

        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def largest_window(
    shape: tuple[int, int, int], divisor: int, *, engine: str, free_bytes: float, scale: float = 1.0
) -> tuple[int, int, int]:
    """The whole shape if one pass over it fits into memory, else a window that does.

    Sides are halved in turn, largest first, in steps of the divisor; ``scale`` as in :func:`pass_bytes`.

    Raises:
        DeviceError: if not even a window of 64 voxels a side fits.
    """
    window = list(shape)
    smallest = max(64 // divisor, 1) * divisor
    while pass_bytes((window[0], window[1], window[2]), engine, scale=scale) + RESERVE_BYTES > free_bytes:
        axis = max(range(3), key=lambda i: window[i])
        if window[axis] <= smallest:
            need = (pass_bytes((smallest,) * 3, engine, scale=scale) + RESERVE_BYTES) / 2**30
            raise DeviceError(
                f"not enough memory: {free_bytes / 2**30:.1f} GiB free, {need:.1f} GiB needed at least. "
                "Close other programs, or run on a machine with more memory."
            )
        window[axis] = max(-(-window[axis] // 2 // divisor) * divisor, smallest)
    return window[0], window[1], window[2]
