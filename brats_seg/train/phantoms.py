"""Phantom patients among the studies a network is trained on, scanned in torch on the device that trains.

Bodies are made once, on the processor, and kept as tissue maps (eight bits a share, :func:`pack_tissues`); each call of
:func:`draw_phantoms` gives them another scanner: signal of each tissue, texture, coil, slices, blur, noise. Signals
stay near those of :mod:`brats_seg.phantom.contrast`, or are wholly random for some sequences, which teaches a network
not to lean on them (Billot et al., Med Image Anal 2023;86:102789, doi:10.1016/j.media.2023.102789).

Chance is a function of seed and position (a counter-based generator, Salmon et al., SC 2011,
doi:10.1145/2063384.2063405, with the finalizer of SplitMix64, Steele et al., OOPSLA 2014,
doi:10.1145/2660193.2660195), made of integer operations that every device does alike: the same seed gives the same
phantom on CPU and GPU to within rounding, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid
from brats_seg.core.labels import Region, Structure
from brats_seg.core.study import SEQUENCES
from brats_seg.imaging.boxes import bounding_box
from brats_seg.models.card import regions_of
from brats_seg.phantom.contrast import SIGNAL, VARIATION, ZERO_LEVEL, Tissue
from brats_seg.phantom.course import PhantomConfig, grow_course, patient_at
from brats_seg.phantom.script import PatientKind, draw_course
from brats_seg.train.augment import Chance, alter, drop_sequences, read_at, sample_points
from brats_seg.train.config import PhantomMixConfig, TrainConfig
from brats_seg.train.data import coarser, open_arrays, write_arrays

KINDS = (
    PatientKind.HIGH_GRADE,
    PatientKind.HIGH_GRADE,
    PatientKind.LOW_GRADE,
    PatientKind.HIGH_GRADE,
    PatientKind.METASTASES,
    PatientKind.NONE,
)
"""Taken in turn; mostly the high-grade tumour, as most studies show one."""
SPACE = Grid((240, 240, 240), np.eye(4))
"""Axes and voxel size of a body: RAS and 1 mm, as prepared studies have them."""
TISSUES: tuple[Tissue, ...] = tuple(Tissue)
"""Order of the channels of packed tissue maps."""
STRUCTURE_TISSUES: Mapping[Structure, frozenset[Tissue]] = {
    Structure.NCR: frozenset({Tissue.NECROSIS, Tissue.CORE}),
    Structure.ED: frozenset({Tissue.EDEMA}),
    Structure.ET: frozenset({Tissue.ENHANCING}),
}
_TAPS = 3
"""Voxels a blur reaches to each side."""
_MIX = (-4658895280553007687, -7723592293110705685)
"""0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers."""
_GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed number."""


@dataclass(frozen=True)
class ScannerConfig:
    """How much scanners differ; every strength is drawn for each sample and sequence.

    Attributes:
        jitter: standard deviation of a tissue's signal around its usual one, in deviations of the brain.
        free: probability that a sequence's signals are wholly random.
        texture: range of the factor on the variation inside tissues.
        bias: largest standard deviation of the logarithm of the coil's sensitivity.
        blur: largest standard deviation of the point-spread function, voxels.
        slices: range of their thickness, voxels.
        noise: range of the noise, in deviations of the brain.
    """

    jitter: float = 0.25
    free: float = 0.15
    texture: tuple[float, float] = (0.6, 1.6)
    bias: float = 0.2
    blur: float = 0.9
    thick: float = 0.25
    slices: tuple[int, int] = (2, 5)
    noise: tuple[float, float] = (0.02, 0.2)


def open_phantoms(
    mix: PhantomMixConfig, cache: Path, *, factor: int, device: torch.device, progress: bool = True
) -> list[torch.Tensor]:
    """The bodies of a configuration, made where they are not there yet.

    Args:
        cache: where their tissue maps are kept.
        factor: voxels of 1 mm that one voxel of the network spans along each axis.

    Returns:
        Of each, uint8 ``(T, X, Y, Z)`` of :func:`pack_tissues`, at the spacing of the network, on the device.

    Raises:
        InputError: if a file in ``cache`` is damaged.
    """
    place = cache / sha256(repr((mix.seed, [kind.value for kind in KINDS])).encode()).hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    bodies = []
    for number in tqdm(range(mix.count), desc="make phantoms", disable=not progress):
        kind = KINDS[number % len(KINDS)]
        path = place / f"{number:04d}_{kind.value}.npz"
        if not path.exists():
            write_arrays(path, {"shares": make_shares(kind, [mix.seed, number])})
        with open_arrays(path) as held:
            shares = coarser(torch.from_numpy(held["shares"]).float(), factor)
        bodies.append(shares.round().to(torch.uint8).to(device))
    return bodies


def make_shares(kind: PatientKind, seed: Sequence[int]) -> NDArray[np.uint8]:
    """Tissue map ``(T, X, Y, Z)`` of a patient of ``brats-seg phantom`` at 1 mm, RAS, cut to the brain."""
    config = PhantomConfig(grid=SPACE)
    course = draw_course(np.random.default_rng(seed), kind, visits=1)
    patient, _ = patient_at(grow_course(course, config), 0, config)
    shares = pack_tissues(patient.body.tissues())
    box = bounding_box(shares.max(axis=0)) or ()
    return np.ascontiguousarray(shares[(slice(None), *box)])


def pack_tissues(tissues: Mapping[Tissue, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Shares of tissues, as :meth:`~brats_seg.phantom.acquire.Body.tissues` gives them, in eight bits.

    Returns:
        ``(T, X, Y, Z)`` in the order of :data:`TISSUES`, share times 255; tissues not named are 0.
    """
    shape = next(iter(tissues.values())).shape
    packed = np.zeros((len(TISSUES), *shape), np.uint8)
    for channel, tissue in enumerate(TISSUES):
        if tissue in tissues:
            packed[channel] = np.rint(np.clip(tissues[tissue], 0, 1) * 255)
    return packed


def draw_phantom_sample(
    bodies: Sequence[torch.Tensor], patch: tuple[int, int, int], config: TrainConfig, rng: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """One newly scanned, augmented sample of a body: image ``(4, *patch)`` and target ``(3, *patch)``.

    It is turned, scaled and bent like a real study.
    """
    body = bodies[rng.below(len(bodies))]
    x, y, z = body.shape[1:]
    points = sample_points((x, y, z), patch, config, rng).to(body.device)
    shares = read_at(body.float(), points).round().to(torch.uint8)
    image, target = draw_phantoms(shares[None], [rng.below(2**31)])
    altered = alter(image[0], (image[0] != 0).any(dim=0), config.augment, rng)
    return drop_sequences(altered, config.augment, rng), target[0]


def draw_phantoms(
    shares: torch.Tensor, seeds: Sequence[int], config: ScannerConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan a batch of tissue maps, each with a scanner of its own.

    Args:
        shares: ``(B, T, X, Y, Z)`` uint8 from :func:`pack_tissues`, on the device to work on.

    Returns:
        Images ``(B, 4, X, Y, Z)``, z-scores within the brain and 0 outside, in the order of ``SEQUENCES``; and the
        share of each voxel in WT, TC and ET ``(B, 3, X, Y, Z)``.

    Raises:
        InputError: if the shapes do not fit.
    """
    if shares.ndim != 5 or shares.shape[1] != len(TISSUES) or shares.shape[0] != len(seeds):
        raise InputError(
            f"{len(seeds)} seeds and tissue maps of shape {tuple(shares.shape)} do not fit; "
            f"pass (samples, {len(TISSUES)}, x, y, z) and a seed for each sample"
        )
    config = config or ScannerConfig()
    part = shares.float() / 255
    head = part.sum(1, keepdim=True) > 0.5
    target = torch.stack([_region(part, region) for region in regions_of()], dim=1).clamp(0, 1)
    settings = _Settings.draw(seeds, config, shares.device)
    shape = (int(shares.shape[2]), int(shares.shape[3]), int(shares.shape[4]))
    signal = _mix(settings.level, part)
    signal += _mix(settings.variation, part) * _texture(seeds, shape, shares.device)
    signal = signal.clamp(min=0) * _sensitivity(seeds, shape, settings.bias)
    signal = _blurred(signal, settings.blur)
    signal = _sliced(signal, settings.slices)
    noise = settings.noise[:, :, None, None, None]
    real = signal + noise * _normal(seeds, 10, (len(SEQUENCES), *shape), shares.device)
    image = torch.hypot(real, noise * _normal(seeds, 11, (len(SEQUENCES), *shape), shares.device))
    return _standardised(image, head), target


def _region(part: torch.Tensor, region: Region) -> torch.Tensor:
    held = {tissue for structure in region.structures for tissue in STRUCTURE_TISSUES.get(structure, ())}
    channels = [i for i, tissue in enumerate(TISSUES) if tissue in held]
    return part[:, channels].sum(1)


@dataclass(frozen=True, eq=False)
class _Settings:
    """What was drawn for each sample and sequence; ``(B, 4)`` on the device unless said otherwise.

    Attributes:
        level: ``(B, 4, T)`` signal of each tissue.
        variation: ``(B, 4, T)`` standard deviation inside each tissue.
        bias: strength of the coil.
        blur: voxels.
        noise: standard deviation.
        slices: thickness in voxels along which axis, as plain numbers; 1 for none.
    """

    level: torch.Tensor
    variation: torch.Tensor
    bias: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    slices: list[list[tuple[int, int]]]

    @classmethod
    def draw(cls, seeds: Sequence[int], config: ScannerConfig, device: torch.device) -> _Settings:
        count, tissues = len(SEQUENCES), len(TISSUES)
        usual = np.array([[ZERO_LEVEL[s] + SIGNAL[s][t] for t in TISSUES] for s in SEQUENCES])
        spread = np.array([[VARIATION[s][t] for t in TISSUES] for s in SEQUENCES])
        level, variation, bias, blur, noise, slices = [], [], [], [], [], []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            free = rng.random(count) < config.free
            random = rng.uniform(0.5, 7.0, (count, tissues))
            level.append(np.where(free[:, None], random, usual + config.jitter * rng.standard_normal((count, tissues))))
            variation.append(spread * rng.uniform(*config.texture, (count, 1)))
            bias.append(rng.uniform(0, config.bias, count))
            blur.append(rng.uniform(0, config.blur, count))
            noise.append(rng.uniform(*config.noise, count))
            thick = np.where(rng.random(count) < config.thick, rng.integers(*config.slices, count, endpoint=True), 1)
            slices.append([(int(t), int(a)) for t, a in zip(thick, rng.integers(0, 3, count), strict=True)])

        def move(values: list[NDArray[np.float64]]) -> torch.Tensor:
            return torch.from_numpy(np.stack(values).astype(np.float32)).to(device)

        return cls(move(level), move(variation), move(bias), move(blur), move(noise), slices)


def _mix(values: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """``(B, 4, T)`` by ``(B, T, X, Y, Z)`` to ``(B, 4, X, Y, Z)``, in the same order of tissues on every device."""
    result = torch.zeros((part.shape[0], values.shape[1], *part.shape[2:]), device=part.device)
    for tissue in range(part.shape[1]):
        result.addcmul_(values[:, :, tissue, None, None, None], part[:, tissue : tissue + 1])
    return result


def _texture(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """Unit-variance pattern of each sample ``(B, 1, X, Y, Z)``, the same in all sequences: fine, middle and wide."""
    total = 0.3 * _normal(seeds, 0, (1, *shape), device)
    for number, (step, weight) in enumerate(((2, 0.6), (5, 0.75)), start=1):
        total = total + weight * _lattice(seeds, number, (1, *shape), step=step, device=device)
    return total


def _sensitivity(seeds: Sequence[int], shape: tuple[int, int, int], strength: torch.Tensor) -> torch.Tensor:
    field = _lattice(seeds, 5, (len(SEQUENCES), *shape), step=40, device=strength.device)
    return torch.exp(strength[:, :, None, None, None] * field)


def _lattice(
    seeds: Sequence[int], stream: int, shape: tuple[int, int, int, int], *, step: int, device: torch.device
) -> torch.Tensor:
    """Noise ``(B, C, X, Y, Z)`` on points about ``step`` voxels apart, linear between them, of about unit variance."""
    knots = tuple(max(round(n / step), 1) + 2 for n in shape[1:])
    coarse = _normal(seeds, stream, (shape[0], *knots), device)
    fine = functional.interpolate(coarse, size=shape[1:], mode="trilinear", align_corners=True)
    result: torch.Tensor = fine * 1.5**1.5  # linear interpolation leaves 2/3 of the variance along each axis
    return result


def _blurred(signal: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur of each sample and sequence with its own width, by shifting and adding."""
    offsets = torch.arange(-_TAPS, _TAPS + 1, device=signal.device, dtype=torch.float32)
    weights = torch.exp(-(offsets**2) / (2 * sigma[:, :, None].clamp(min=0.15) ** 2))
    weights = (weights / weights.sum(-1, keepdim=True))[..., None, None, None]
    for axis in (2, 3, 4):
        size = signal.shape[axis]
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (4 - axis)] = padding[2 * (4 - axis) + 1] = _TAPS
        wide = functional.pad(signal, padding)
        signal = torch.zeros_like(signal)
        for tap in range(2 * _TAPS + 1):
            signal.addcmul_(weights[:, :, tap], wide.narrow(axis, tap, size))
    return signal


def _sliced(signal: torch.Tensor, slices: list[list[tuple[int, int]]]) -> torch.Tensor:
    """Slices averaged over their thickness and interpolated back, for those samples and sequences that drew it."""
    for sample, row in enumerate(slices):
        for channel, (thickness, axis) in enumerate(row):
            if thickness == 1:
                continue
            volume = signal[sample, channel][None, None]
            shape = [int(n) for n in volume.shape[2:]]
            x, y, z = (max(n // thickness, 1) if i == axis else n for i, n in enumerate(shape))
            thick = functional.adaptive_avg_pool3d(volume, (x, y, z))
            signal[sample, channel] = functional.interpolate(thick, size=shape, mode="trilinear", align_corners=False)[
                0, 0
            ]
    return signal


def _standardised(image: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Z-scores within the head, 0 outside; sums in double precision, for they run over millions of voxels."""
    inside = head.to(image.dtype)
    count = inside.sum((2, 3, 4), keepdim=True, dtype=torch.float64).clamp(min=1)
    mean = (image * inside).sum((2, 3, 4), keepdim=True, dtype=torch.float64) / count
    centred = (image - mean.to(image.dtype)) * inside
    variance = (centred**2).sum((2, 3, 4), keepdim=True, dtype=torch.float64) / count
    return centred / variance.sqrt().clamp(min=1e-6).to(image.dtype)


def _normal(seeds: Sequence[int], stream: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Standard normal numbers ``(B, *shape)`` that depend on seed, stream and position alone (Box and Muller 1958).

    Both numbers of each pair are used: the first half of the positions has the cosines, the second the sines.
    """
    count = math.prod(shape)
    half = (count + 1) // 2
    place = torch.arange(half, device=device, dtype=torch.int64)
    keys = torch.tensor([_key(seed, stream) for seed in seeds], device=device, dtype=torch.int64)
    bits = _hashed(place[None] * _GOLDEN + keys[:, None])
    radius = torch.sqrt(-2 * torch.log(((bits >> 40) & 0xFFFFFF).float() * 2.0**-24 + 2.0**-25))
    angle = ((bits >> 8) & 0xFFFFFF).float() * (2 * math.pi * 2.0**-24)
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return both[:, :count].reshape(len(seeds), *shape)


def _key(seed: int, stream: int) -> int:
    """A signed 64-bit start for a seed and a stream."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    return int(state.view(np.int64)[0])


def _hashed(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of SplitMix64; products wrap, and shifts are made logical by masks."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
