"""Several processes that train one network, as ``torchrun`` starts them; one process alone is the same with size 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from brats_seg.core.errors import DeviceError, UsageError

Made = TypeVar("Made")


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: of this process; 0 writes the run folder.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Which samples of a step are this process's own.

        Raises:
            UsageError: if the samples of a step cannot be dealt out evenly.
        """
        if batch % self.size:
            raise UsageError(
                f"batch {batch} cannot be dealt out evenly to {self.size} processes; make it a multiple of that"
            )
        return range(self.rank, batch, self.size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, or one that averages its gradients over all processes."""
        if self.size == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Mean of a scalar over all processes."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def decide(self, answer: bool) -> bool:
        """The answer of the first process, for all."""
        if self.size == 1:
            return answer
        told = torch.tensor([int(answer)], device=self.device)
        distributed.broadcast(told, src=0)
        return bool(told.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What ``make`` gives: the first process makes it and keeps it in a file, the others wait and read it."""
        if not self.is_first:
            self.wait()
        made = make()
        if self.is_first:
            self.wait()
        return made


ALONE = World(0, 1, torch.device("cpu"))


@contextmanager
def join(device: torch.device | str, environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """This process's place among those ``torchrun`` started (NCCL on GPUs, gloo on processors), left at the end.

    Args:
        device: ``auto`` (CUDA where there is a GPU), ``cpu``, ``cuda`` or ``cuda:N``; with several processes each
            takes the GPU of its local rank.
        environment: the variables by which ``torchrun`` tells each process its place; alone without them.

    Raises:
        DeviceError: if there is no such GPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    environment = environment or {}
    size, rank = int(environment.get("WORLD_SIZE", "1")), int(environment.get("RANK", "0"))
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("no CUDA device is available; pass --device cpu")
        if size > 1:
            device = torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise DeviceError(
                f"{device} does not exist; there are {torch.cuda.device_count()} GPUs. Start fewer processes"
            )
    if size == 1:
        yield World(0, 1, device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        distributed.destroy_process_group()
