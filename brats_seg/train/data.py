"""Studies packed for training: prepared once, eight bits a voxel, all of them resident in memory.

They are kept as named arrays in compressed files (``.npz``): written whole or not at all, and damage is explained.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from brats_seg.core.errors import BratsSegError, InputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, LabelSchema
from brats_seg.core.scans import PreparedStudy
from brats_seg.core.study import SEQUENCES
from brats_seg.files.output import atomic_write
from brats_seg.files.visit_names import patient_of
from brats_seg.imaging.boxes import bounding_box
from brats_seg.imaging.likeness import fingerprints
from brats_seg.imaging.restore import move
from brats_seg.models.card import regions_of

MADE_AGAIN = "remove it, it is made again"
"""What to do about a damaged file that is only kept to save time."""

_KEY = "key"
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], *, key: bytes = b"") -> None:
    """Write arrays by name, whole or not at all.

    Args:
        key: digest of all that the arrays were made of, so that a file made of something else is not taken for it.

    Raises:
        OutputError: if the file cannot be written.
    """
    held = {**arrays, **({_KEY: np.frombuffer(key, np.uint8)} if key else {})}
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **held)  # type: ignore[arg-type]  # the stub knows no mapping of arrays


def has_key(path: Path, key: bytes) -> bool:
    """Whether a file of :func:`write_arrays` is there, whole, and of this key."""
    try:
        with np.load(path) as held:
            return _KEY in held and bytes(held[_KEY]) == key
    except _DAMAGE:
        return False


@contextmanager
def open_arrays(
    path: Path, *, remedy: str = MADE_AGAIN, error: type[BratsSegError] = InputError
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file of :func:`write_arrays`; each is read when asked for.

    An array that is missing, or of a shape the block cannot use, counts as damage too.

    Args:
        remedy: what to do where it is damaged.
        error: what to raise then.

    Raises:
        InputError: or ``error``, naming the file, if it is missing or damaged.
    """
    try:
        with np.load(path) as held:
            yield held
    except _DAMAGE as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else failure
        raise error(f"{path} is missing or damaged ({reason}); {remedy}") from failure


LEVELS_PER_STD = 14.0
"""Grey levels per standard deviation in a pack; int8 then reaches 9 standard deviations."""

LEVELS_PER_LOGIT = 16.0
"""Grey levels per unit of log-odds in a :class:`Prior`; int8 then reaches 7.9, a probability of 0.9996."""

WIDE_DISAGREEMENT = 0.75
"""Where expert and teacher are further apart than this the expert alone counts: one of the two is wrong, or the teacher
was not asked, as outside the box a cascade looks at."""


@dataclass(frozen=True, eq=False)
class PackedStudy:
    """One prepared study with its expert label.

    Attributes:
        image: int8 ``(4, X, Y, Z)``: z-scores times :data:`LEVELS_PER_STD`.
        labels: uint8 ``(X, Y, Z)`` in the numbers of the default schema.
        made_of: ids of the studies whose scans or labels it was made of, for one that was made and not scanned; the
            patient of a part of a study.
        teacher: file of :func:`write_taught` with what a teacher finds in it.
    """

    id: str
    image: NDArray[np.int8]
    labels: NDArray[np.uint8]
    made_of: tuple[str, ...] = ()
    teacher: Path | None = None

    @property
    def patient(self) -> str:
        """The patient a study belongs to."""
        return patient_of(self.id)

    @cached_property
    def heads(self) -> dict[str, str]:
        """Fingerprint of the head in each sequence, by which scans are known again whatever they are called."""
        return fingerprints(self.image.astype(np.float32), (self.image != 0).any(axis=0))

    def fingerprint(self) -> bytes:
        """The same for the same scans and label, whatever they are called; of the label and a slice of the scans."""
        middle = self.image[:, self.image.shape[1] // 2]
        return hashlib.sha256(self.labels.tobytes() + middle.tobytes()).digest()


def pack_study(prepared: PreparedStudy, labels: Volume, schema: LabelSchema) -> PackedStudy:
    """Quantise a prepared study and bring its expert label to the same grid, cropped to the brain.

    Raises:
        InputError: if the label map does not lie on the study's own grid, or no brain is left.
    """
    native = prepared.record.native
    if not labels.grid.same_as(native):
        raise InputError(
            f"the label map of {prepared.id} lies on {labels.grid.describe()}, "
            f"its study on {native.describe()}; they must be on one grid"
        )
    numbers = schema.convert(labels.data, DEFAULT_SCHEMA)
    moved = move(numbers, labels.grid, prepared.grid, order=0).astype(np.uint8)
    box = bounding_box(prepared.brain)
    if box is None:
        raise InputError(f"{prepared.id} holds no brain to train on")
    image = np.clip(np.round(prepared.array * LEVELS_PER_STD), -127, 127).astype(np.int8)
    return PackedStudy(prepared.id, np.ascontiguousarray(image[(slice(None), *box)]), np.ascontiguousarray(moved[box]))


def write_pack(pack: PackedStudy, folder: Path, *, key: bytes = b"") -> Path:
    """Write ``<id>.npz`` into ``folder``, whole or not at all.

    Args:
        folder: made where it is not there.
        key: digest of the files and settings it was packed from, for :func:`~brats_seg.train.data.has_key`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pack.id}.npz"
    made_of = {"made_of": np.array(pack.made_of)} if pack.made_of else {}
    write_arrays(path, {"image": pack.image, "labels": pack.labels, **made_of}, key=key)
    return path


def read_pack(path: Path) -> PackedStudy:
    """Read a file of :func:`write_pack`.

    Raises:
        InputError: if the file is damaged or is no pack.
    """
    with open_arrays(path, remedy="pack the data set again") as held:
        made_of = tuple(map(str, held["made_of"])) if "made_of" in held else ()
        pack = PackedStudy(path.stem, held["image"], held["labels"], made_of)
    if pack.image.shape != (len(SEQUENCES), *pack.labels.shape):
        raise InputError(f"{path.name}: image {pack.image.shape} and labels {pack.labels.shape} do not fit")
    return pack


def write_taught(probabilities: NDArray[np.uint8], path: Path) -> None:
    """Write what a teacher finds in a pack: ``(3, X, Y, Z)``, 255 times the probability of WT, TC, ET, on its grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {"probabilities": probabilities})


def read_taught(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a file of :func:`write_taught` for a pack of ``shape``.

    Raises:
        InputError: if it is damaged or lies on another grid.
    """
    with open_arrays(path, remedy="ask the teacher again") as held:
        probabilities: NDArray[np.uint8] = held["probabilities"]
    if probabilities.shape != (len(regions_of()), *shape):
        raise InputError(f"{path} holds {probabilities.shape}, its study {shape}; ask the teacher again")
    return probabilities


def with_teacher(packs: Sequence[PackedStudy], folder: Path | None) -> list[PackedStudy]:
    """The packs with what a teacher found in them, ``<id>.npz`` of a folder; those without a file learn from labels."""
    paths = {} if folder is None else {path.stem: path for path in folder.glob("*.npz")}
    return [replace(pack, teacher=paths.get(pack.id)) for pack in packs]


def read_cubes(path: Path) -> list[PackedStudy]:
    """Labelled cubes of further patients: ``images`` int8 ``(N, 4, x, y, z)``, ``labels`` uint8, ``patients`` (ids).

    Raises:
        InputError: if the file is damaged or its arrays do not fit.
    """
    with open_arrays(path, remedy="make the cubes again") as held:
        images, labels, patients = held["images"], held["labels"], held["patients"]
    if images.shape != (len(patients), len(SEQUENCES), *labels.shape[1:]) or len(labels) != len(patients):
        raise InputError(f"{path.name}: images {images.shape}, labels {labels.shape} and patients do not fit")
    return [PackedStudy(f"{name}.{n}", images[n], labels[n], (str(name),)) for n, name in enumerate(patients)]


@dataclass(frozen=True, eq=False)
class Prior:
    """What a coarse stage says about several altered copies of one study.

    Attributes:
        logits: int8 ``(views, 3, x, y, z)``: log-odds of WT, TC, ET times :data:`LEVELS_PER_LOGIT`.
        blanks: for each view, the channels that were missing from that copy.
        factor: how many voxels of the training case one voxel here spans along each axis.
    """

    logits: torch.Tensor
    blanks: tuple[tuple[int, ...], ...]
    factor: float

    def to(self, device: torch.device) -> Prior:
        """The same on another device."""
        return Prior(self.logits.to(device), self.blanks, self.factor)


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A packed study at the spacing a network works at, on the training device.

    Attributes:
        image: int8 ``(4, X, Y, Z)``.
        regions: uint8 ``(3, X, Y, Z)``: share of each voxel that is WT, TC, ET, times 255, see :func:`blended`.
        tumour_voxels: per region, int16 ``(N, 3)`` voxels of it (about 4096, evenly taken), on the processor.
        prior: probabilities of the coarse stage, for a cascaded fine stage.
    """

    id: str
    image: torch.Tensor
    regions: torch.Tensor
    tumour_voxels: tuple[torch.Tensor, ...]
    prior: Prior | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.image.shape[1:]
        return int(x), int(y), int(z)

    @cached_property
    def slice_sums(self) -> tuple[torch.Tensor, ...]:
        """For each axis, over the slices before each: float64 ``(3, 4, N + 1)`` on the processor, by sequence.

        Voxels of the head, their sum and the sum of their squares, in standard deviations: of any slab the difference
        of two entries, so that its mean and spread cost nothing.
        """
        image = self.image.double() / LEVELS_PER_STD
        head = (self.image != 0).any(dim=0).expand(image.shape)
        moments = torch.stack([head.double(), image, image.square()])
        sums = []
        for axis in range(3):
            others = [2 + other for other in range(3) if other != axis]
            sums.append(functional.pad(moments.sum(dim=others).cumsum(dim=-1), (1, 0)).cpu())
        return tuple(sums)


def only(pack: PackedStudy, sequences: Sequence[str]) -> PackedStudy:
    """The study as if only these sequences had been scanned."""
    if set(sequences) == {sequence.value for sequence in SEQUENCES}:
        return pack
    kept = np.array([sequence.value in sequences for sequence in SEQUENCES])
    return replace(pack, image=pack.image * kept[:, None, None, None].astype(np.int8))


def padded(volume: torch.Tensor, multiple: int) -> torch.Tensor:
    """``(C, X, Y, Z)`` with zeros after its last voxels, until every side is a multiple."""
    sides = [side for n in reversed(volume.shape[1:]) for side in (0, -n % multiple)]
    return functional.pad(volume, sides)


def coarser(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """``(C, X, Y, Z)`` floats, ``factor`` cubed voxels averaged into one."""
    return volume if factor == 1 else functional.avg_pool3d(padded(volume, factor)[None], factor)[0]


def blended(label: torch.Tensor, teacher: torch.Tensor, share: float) -> torch.Tensor:
    """Mean of an expert's regions and a teacher's, ``(3, X, Y, Z)`` in 0..1.

    The teacher has ``share`` times its Dice with the expert in that region, and nothing where they disagree widely. Of
    a cascade, WT is the largest of all three, because its later networks may find more.
    """
    teacher = torch.cat([teacher.amax(dim=0, keepdim=True), teacher[1:]])
    found, truth = (teacher >= 0.5).flatten(1), (label >= 0.5).flatten(1)
    agreement = (2 * (found & truth).sum(dim=1) + 1) / (found.sum(dim=1) + truth.sum(dim=1) + 1)
    weight = share * agreement[:, None, None, None] * ((teacher - label).abs() <= WIDE_DISAGREEMENT)
    return label + weight * (teacher - label)


def training_case(pack: PackedStudy, *, factor: int, device: torch.device, teacher_share: float = 0.0) -> TrainingCase:
    """Average ``factor`` cubed voxels into one; labels become shares of a voxel, a teacher's opinion part of them."""
    masks = np.stack([DEFAULT_SCHEMA.region_mask(pack.labels, region) for region in regions_of()])
    image = torch.from_numpy(pack.image.astype(np.float32)).to(device)
    regions = torch.from_numpy(masks.astype(np.float32)).to(device)
    image, regions = coarser(image, factor), coarser(regions, factor)
    voxels = []
    for region in regions:
        where = torch.nonzero(region >= 0.5).to(torch.int16).cpu()
        voxels.append(where[:: max(len(where) // 4096, 1)])
    if teacher_share > 0 and pack.teacher is not None:
        taught = torch.from_numpy(read_taught(pack.teacher, pack.labels.shape)).to(device).float() / 255
        regions = blended(regions, coarser(taught, factor), teacher_share)
    return TrainingCase(pack.id, image.round().to(torch.int8), (regions * 255).round().to(torch.uint8), tuple(voxels))


def load_packs(folder: Path) -> list[PackedStudy]:
    """Every pack of a folder in order of name.

    Raises:
        InputError: if there is none, or one is damaged.
    """
    paths = sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder.name} holds no packed study (*.npz)")
    return [read_pack(path) for path in paths]
