"""How much memory a network pass needs, stated before it starts, and what of the machine this process may use.

A container or a batch system often allows less than the machine has, and says so in the files of its control group
(both versions), in the limits of the process and in the processors it may run on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from brats_seg.core.errors import DeviceError, address_space_bytes

BYTES_PER_INPUT_VOXEL = {"torch": 150.0, "openvino": 280.0, "onnxruntime": 100.0}
"""Peak bytes of one pass per voxel of its input. The process's peak memory grew by 132 and 136 (PyTorch), 239 and 267
(OpenVINO), 68 and 65 (onnxruntime) over one pass of the shipped network at 144x176x144 and 96x96x96 voxels."""

RESERVE_BYTES = 512 * 2**20
"""Left for everything else."""


def pass_bytes(shape: tuple[int, int, int], engine: str, *, scale: float = 1.0) -> float:
    """Estimated peak memory of one pass over ``shape`` voxels, in bytes.

    Args:
        engine: ``torch``, ``openvino`` or ``onnxruntime``.
        scale: what the network needs per voxel, as a multiple of the shipped one.
    """
    return float(shape[0] * shape[1] * shape[2]) * BYTES_PER_INPUT_VOXEL[engine] * scale


def available_bytes(device: str) -> float:
    """Free memory of the device a pass would use, in bytes; of this machine's, what this process may have of it."""
    if device.startswith("cuda"):
        from brats_seg.models.torch_engine import free_bytes  # noqa: PLC0415 - only with a GPU

        return free_bytes(device)
    machine, own = psutil.virtual_memory(), psutil.Process().memory_info()
    total, free = _group_memory()
    free = min(free, float(machine.available), address_space_bytes() - float(own.vms))  # what ulimit -v leaves
    if _processes > 1:
        free = min(free, min(total, float(machine.total)) / _processes - float(own.rss))
    return max(free, 0.0)


_processes = 1


def share_machine(processes: int) -> None:
    """Say that this process is one of several that work at once, each with its share of memory and processors."""
    global _processes  # noqa: PLW0603 - true of the process as a whole
    _processes = processes


def require_memory(further_bytes: float) -> None:
    """See that what is needed at least is there, before work that would only end for want of it.

    Args:
        further_bytes: what is needed beside the network's own reserve.

    Raises:
        DeviceError: naming both.
    """
    free, need = available_bytes("cpu"), further_bytes + RESERVE_BYTES
    if free < need:
        raise _too_little(free, need)


def _too_little(free: float, need: float) -> DeviceError:
    return DeviceError(
        f"not enough memory: {free / 2**30:.1f} GiB free, {need / 2**30:.1f} GiB needed at least. "
        "Close other programs, or run on a machine (or in a container) with more memory."
    )


def usable_processors() -> int:
    """Processors this process may use, at least 1."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, math.floor(min(count, _group_processors())))


def own_threads() -> int:
    """Threads this process may work on: its share of the processors, at least 1."""
    return max(1, usable_processors() // _processes)


_SELF, _GROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")
_UNLIMITED = 2.0**60
"""From here on a limit of version 1, which has no word for none, is none."""


def _group_memory(process: Path = _SELF, groups: Path = _GROUPS) -> tuple[float, float]:
    """Limit and free bytes of the control group this process is in, or of one above it; infinite without a limit."""
    total = free = math.inf
    for folder in _group_folders("memory", process, groups):
        version_2 = (folder / "memory.max").exists()
        limit = _number(folder / ("memory.max" if version_2 else "memory.limit_in_bytes"))
        if limit is None or limit >= _UNLIMITED:
            continue
        used = _number(folder / ("memory.current" if version_2 else "memory.usage_in_bytes")) or 0.0
        # Pages of files that were read count as used, and are given up when the memory is asked for.
        used -= _entry(folder / "memory.stat", "inactive_file" if version_2 else "total_inactive_file")
        total, free = min(total, limit), min(free, limit - used)
    return total, free


def _group_processors(process: Path = _SELF, groups: Path = _GROUPS) -> float:
    """Processors that the control group's quota is worth; infinite without one."""
    found = math.inf
    for folder in _group_folders("cpu", process, groups):
        words = _text(folder / "cpu.max").split()
        if not words:
            words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
            found = min(found, int(words[0]) / int(words[1]))
    return found


def _group_folders(controller: str, process: Path, groups: Path) -> Iterator[Path]:
    """Folders of the control groups this process is in, innermost first; inside a container only the outermost."""
    for line in _text(process / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        root = groups if not controllers else groups / controller
        if controllers and controller not in controllers.split(","):
            continue
        folder = root / path.lstrip("/")
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(root) and place.is_dir())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if text.isdigit() else None


def _entry(path: Path, name: str) -> float:
    """A number of a file of names and numbers; 0 where it is not."""
    entries = (line.split() for line in _text(path).splitlines())
    return next((float(words[1]) for words in entries if len(words) == 2 and words[0] == name), 0.0)


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
            raise _too_little(free_bytes, pass_bytes((smallest,) * 3, engine, scale=scale) + RESERVE_BYTES)
        window[axis] = max(-(-window[axis] // 2 // divisor) * divisor, smallest)
    return window[0], window[1], window[2]
