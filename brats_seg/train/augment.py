"""Samples for training: cut, deformed and altered in torch, on the device that trains.

Every random number comes from the :class:`Chance` passed in, which the loop seeds by step and sample, so
that a resumed run sees what an unbroken one would have seen, and several processes what one alone would.
Images are ``(4, x, y, z)`` z-scores, targets ``(3, x, y, z)`` in 0..1 (the share of a voxel that belongs
to WT, TC, ET).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from brats_seg.train.config import AugmentConfig, TrainConfig
from brats_seg.train.data import LEVELS_PER_LOGIT, LEVELS_PER_STD, TrainingCase

CUBE_BORDER = 2.0
"""Voxels over which a cube of another patient passes into what surrounds it."""
SLAB_SHARE = (0.4, 0.9)
"""Range of the share of a head that a narrow field of view shows."""
SLAB_ODDS = (1.0, 1.0, 2.0)
"""Of the axes to be the one it is narrow along: most scans are axial, and lack slices at the top or the bottom."""
BACKGROUND_LOGIT = -127 / LEVELS_PER_LOGIT
"""Log-odds that stand for what the coarse stage says of air."""


class Chance:
    """Random numbers of one sample: decisions on the processor, fields of noise on the training device.

    A decision taken from a GPU would make the processor wait for it; this way the GPU is kept fed.

    Args:
        seed: gives the same numbers again.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._host = torch.Generator().manual_seed(seed)
        # another seed, because on the processor both would else repeat one another
        self._fields = torch.Generator(device=self.device).manual_seed(seed ^ 0x5DEECE66D)

    def happens(self, probability: float) -> bool:
        """True with ``probability``."""
        return bool(torch.rand((), generator=self._host) < probability)

    def uniform(self, low: float, high: float) -> float:
        """A number between two others."""
        return low + (high - low) * float(torch.rand((), generator=self._host))

    def below(self, stop: int) -> int:
        """A whole number from 0 to ``stop - 1``."""
        return int(torch.randint(stop, (), generator=self._host))

    def choose(self, count: int, odds: Sequence[float]) -> list[int]:
        """``count`` different places in ``odds``, each as likely as the number there says."""
        return [int(n) for n in torch.multinomial(torch.tensor(odds), count, generator=self._host)]

    def normals(self, count: int) -> torch.Tensor:
        """``(count,)`` standard normal numbers on the processor."""
        return torch.randn(count, generator=self._host)

    def field(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal noise of a shape on the training device."""
        return torch.randn(shape, generator=self._fields, device=self.device)


def draw_sample(
    cases: Sequence[TrainingCase],
    index: int,
    patch: tuple[int, int, int],
    config: TrainConfig,
    rng: Chance,
    *,
    cubes: Sequence[TrainingCase] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented sample of ``cases[index]``: image ``(4, *patch)`` and target ``(3, *patch)``.

    Cases with a prior give three more channels of the image: the coarse stage's probabilities. Of ``cubes``, small
    parts of further patients, up to ``config.cubes`` are placed into the sample.
    """
    case, augment = cases[index], config.augment
    donor = None
    if len(cases) > 1 and rng.happens(augment.transplant):
        other = rng.below(len(cases) - 1)
        donor = cases[other if other < index else other + 1]
    focus = donor or case
    centre = _centre(focus, config, rng)
    grid = _sampling_grid(patch, config, rng)
    view, blank = _choose_view(case, rng)
    middle = centre + (torch.tensor(case.shape) - torch.tensor(focus.shape)) / 2.0  # brain centre on brain centre
    sample = _cut(case, grid, middle, view)
    if donor is not None:
        sample = _transplant(sample, _cut(donor, grid, centre, view), rng)
    for _ in range(rng.below(config.cubes + 1) if cubes else 0):
        sample = _place(sample, cubes[rng.below(len(cubes))], grid, rng)
    if rng.happens(augment.field_of_view):
        sample = _narrowed(sample, case, grid, middle, rng)
    image = alter(sample.image, (sample.image != 0).any(dim=0), augment, rng)
    if sample.prior is None:
        return drop_sequences(image, augment, rng), sample.target
    image[list(blank)] = 0.0  # what the coarse stage did not see there, the fine stage does not see either
    return torch.cat([image, _shifted(sample.prior, augment, rng)]), sample.target


def read_at(
    volume: torch.Tensor, points: torch.Tensor, *, beyond: Literal["zeros", "border"] = "zeros"
) -> torch.Tensor:
    """A volume between its voxels, trilinear.

    Args:
        volume: ``(C, X, Y, Z)`` floats.
        points: ``(x, y, z, 3)`` in voxels of the volume, where the first one's centre is 0.
        beyond: what is read outside: 0, or what is at the border.

    Returns:
        ``(C, x, y, z)``.
    """
    size = torch.tensor(volume.shape[1:], device=points.device, dtype=torch.float32)
    unit = 2 * points / (size - 1).clamp(min=1) - 1  # -1 and 1 are the centres of the first and the last voxel
    grid = unit.flip(-1)[None]  # torch wants z first
    return functional.grid_sample(volume[None], grid, mode="bilinear", padding_mode=beyond, align_corners=True)[0]


def sample_points(
    shape: tuple[int, int, int], patch: tuple[int, int, int], config: TrainConfig, rng: Chance
) -> torch.Tensor:
    """Where in a volume a whole-brain sample reads its voxels: ``(x, y, z, 3)`` voxels, turned, scaled and bent."""
    grid = _sampling_grid(patch, config, rng)
    centre = _about_middle(shape, config, rng.normals(3))
    return grid + centre.to(grid.device)


def _about_middle(shape: tuple[int, int, int], config: TrainConfig, jitter: torch.Tensor) -> torch.Tensor:
    return (torch.tensor(shape, dtype=torch.float32) - 1) / 2 + jitter * (6.0 / config.spacing_mm)


def _choose_view(case: TrainingCase, rng: Chance) -> tuple[int, tuple[int, ...]]:
    """One of the views of the coarse stage, and the channels it lacked."""
    if case.prior is None:
        return 0, ()
    view = rng.below(len(case.prior.blanks))
    return view, case.prior.blanks[view]


def _shifted(logits: torch.Tensor, augment: AugmentConfig, rng: Chance) -> torch.Tensor:
    """Probabilities of log-odds that were stretched and shifted, region by region."""
    parts = []
    for region in logits:
        scale = math.exp(float(rng.normals(1)) * augment.prior_scale)
        parts.append(torch.sigmoid(region * scale + float(rng.normals(1)) * augment.prior_shift))
    return torch.stack(parts)


def _centre(case: TrainingCase, config: TrainConfig, rng: Chance) -> torch.Tensor:
    """Voxel the sample is centred on: a tumour voxel of a region drawn at random, or about the brain's centre."""
    filled = [voxels for voxels in case.tumour_voxels if len(voxels)]
    jitter = rng.normals(3)
    if filled and rng.happens(config.tumour_centred):
        voxels = filled[rng.below(len(filled))]
        chosen = voxels[rng.below(len(voxels))]
        return chosen.float() + jitter * (8.0 / config.spacing_mm)
    size = torch.tensor(case.shape, dtype=torch.float32)
    if config.tumour_centred > 0:
        # the middle of the box, where there is brain rather than the air around it
        return torch.tensor([rng.uniform(0.2, 0.8) for _ in range(3)]) * size
    return _about_middle(case.shape, config, jitter)


def _rotation(angles: Sequence[float]) -> torch.Tensor:
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        turn = torch.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _sampling_grid(patch: tuple[int, int, int], config: TrainConfig, rng: Chance) -> torch.Tensor:
    """Offsets ``(x, y, z, 3)`` in voxels from the centre to where each voxel of the patch is read."""
    augment, device = config.augment, rng.device
    angles = [math.radians(float(a)) for a in rng.normals(3) * augment.rotation_deg]
    matrix = _rotation(angles) * rng.uniform(1 - augment.scale, 1 + augment.scale)
    if rng.happens(augment.flip):
        matrix[:, 0] = -matrix[:, 0]
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T.to(device)
    if rng.happens(augment.elastic):
        knots = [max(round(n * config.spacing_mm / 32), 2) for n in patch]  # a knot every 32 mm
        field = rng.field((1, 3, *knots)) * (augment.elastic_mm / config.spacing_mm)
        smooth = functional.interpolate(field, size=patch, mode="trilinear", align_corners=True)
        offsets = offsets + smooth[0].permute(1, 2, 3, 0)
    return offsets


class _Sample(NamedTuple):
    """Image ``(4, x, y, z)``, target ``(3, x, y, z)`` and, where there is one, the coarse stage's log-odds."""

    image: torch.Tensor
    target: torch.Tensor
    prior: torch.Tensor | None


def _cut(case: TrainingCase, offsets: torch.Tensor, centre: torch.Tensor, view: int) -> _Sample:
    """A study at ``centre + offsets``, trilinear, 0 outside."""
    points = offsets + centre.to(offsets.device)
    box = _box_of(points, case.shape)
    both = torch.cat(
        [case.image[(slice(None), *box)].float() / LEVELS_PER_STD, case.regions[(slice(None), *box)] / 255.0]
    )
    start = torch.tensor([s.start for s in box], device=points.device)
    cut = read_at(both, points - start)
    return _Sample(cut[:4], cut[4:], _cut_prior(case, points, view))


def _box_of(points: torch.Tensor, shape: tuple[int, int, int]) -> tuple[slice, ...]:
    """The part of a study that holds all points, so that no more of it is turned into floats."""
    if points.device.type != "cpu":
        return tuple(slice(0, n) for n in shape)  # there all of it costs less than waiting to know which part
    low = points.amin(dim=(0, 1, 2)).floor().long().tolist()
    high = points.amax(dim=(0, 1, 2)).ceil().long().tolist()
    starts = [min(max(a, 0), n - 1) for a, n in zip(low, shape, strict=True)]
    stops = [max(min(b + 1, n), a + 1) for a, b, n in zip(starts, high, shape, strict=True)]
    return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))


def _cut_prior(case: TrainingCase, points: torch.Tensor, view: int) -> torch.Tensor | None:
    """The coarse stage's log-odds ``(3, x, y, z)`` at points of the study, as inference interpolates them."""
    if case.prior is None:
        return None
    logits = case.prior.logits[view % len(case.prior.logits)].float() / LEVELS_PER_LOGIT
    # the centre of a coarse voxel lies between the fine ones it was averaged from
    coarse = (points + 0.5) / case.prior.factor - 0.5
    return read_at(logits, coarse, beyond="border")  # as inference has it there: padding with the same value


def _transplant(sample: _Sample, donor: _Sample, rng: Chance) -> _Sample:
    """Place the donor's lesion, with a rim of random width, into the sample (CarveMix, arXiv:2108.06883)."""
    width = 2 * rng.below(4) + 1
    head = (sample.image != 0).any(dim=0)
    lesion = (donor.target[:1] > 0.5).float()
    carve = functional.max_pool3d(lesion[None], width, stride=1, padding=width // 2)[0]
    carve = carve * (donor.image != 0).any(dim=0) * head
    soft = functional.avg_pool3d(carve[None], 3, stride=1, padding=1)[0] * head
    prior = sample.prior
    if prior is not None and donor.prior is not None:
        prior = torch.lerp(prior, donor.prior, soft)
    target = torch.where(carve > 0.5, donor.target, sample.target)
    return _Sample(torch.lerp(sample.image, donor.image, soft), target, prior)


def _place(sample: _Sample, cube: TrainingCase, offsets: torch.Tensor, rng: Chance) -> _Sample:
    """Place a cube of another patient somewhere into the head, turned and bent as the sample is, with soft borders.

    What the coarse stage would find there is not known, so it is even odds.
    """
    patch = sample.image.shape[1:]
    sides = [min(a, b) for a, b in zip(cube.shape, patch, strict=True)]
    starts = [rng.below(whole - side + 1) for whole, side in zip(patch, sides, strict=True)]
    where = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    within = offsets[where]
    size = torch.tensor(cube.shape, dtype=torch.float32, device=within.device)
    points = within - within.mean(dim=(0, 1, 2)) + (size - 1) / 2
    held = read_at(torch.cat([cube.image.float() / LEVELS_PER_STD, cube.regions / 255.0]), points)
    inside = ((torch.minimum(points, size - 1 - points) + 0.5) / CUBE_BORDER).clamp(0, 1).prod(dim=-1)
    box = (slice(None), *where)
    soft = inside * (sample.image[box] != 0).any(dim=0)
    image, target = sample.image.clone(), sample.target.clone()
    image[box] = torch.lerp(image[box], held[:4], soft)
    target[box] = torch.where(soft > 0.5, held[4:], target[box])
    prior = sample.prior
    if prior is not None:
        prior = prior.clone()
        prior[box] = prior[box] * (1 - soft)
    return _Sample(image, target, prior)


def _narrowed(sample: _Sample, case: TrainingCase, offsets: torch.Tensor, centre: torch.Tensor, rng: Chance) -> _Sample:
    """The sample as if only a slab of the head about its centre had been scanned.

    Preparation takes mean and standard deviation over the brain that is there, so that without the slices beside a
    tumour everything else looks darker; those of the slab take the place of those of the whole.
    """
    axis = rng.choose(1, SLAB_ODDS)[0]
    whole = case.shape[axis]
    thickness = max(round(rng.uniform(*SLAB_SHARE) * whole), 1)
    middle = min(max(float(centre[axis]), 0.0), whole - 1.0)
    low = round(rng.uniform(max(middle - thickness, 0.0), min(middle, whole - thickness)))
    count, total, squares = case.slice_sums[axis][:, :, low + thickness] - case.slice_sums[axis][:, :, low]
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=1e-6).sqrt()
    along = offsets[..., axis] + float(centre[axis])
    inside = (along >= low - 0.5) & (along < low + thickness - 0.5)
    mean, std = (value.float().to(along.device)[:, None, None, None] for value in (mean, std))
    head = (sample.image != 0).any(dim=0)
    image = (sample.image - mean) / std * (inside & head)
    prior = sample.prior
    if prior is not None:
        prior = torch.where(inside, prior, BACKGROUND_LOGIT)
    return _Sample(image, sample.target * inside, prior)


def alter(image: torch.Tensor, head: torch.Tensor, augment: AugmentConfig, rng: Chance) -> torch.Tensor:
    """Contrast, brightness, gamma, bias field, noise, blur and thick slices, each sequence on its own."""
    channels = []
    for channel in image:
        x = channel
        if rng.happens(augment.blur):
            x = torch.lerp(x, functional.avg_pool3d(x[None, None], 3, 1, 1)[0, 0], rng.uniform(0.3, 1.0))
        if rng.happens(augment.thick_slices):
            x = _thick_slices(x, rng)
        if rng.happens(augment.gamma):
            low, high = x.amin(), x.amax()
            unit = (x - low) / (high - low).clamp(min=1e-6)
            x = unit ** math.exp(rng.uniform(-0.35, 0.35)) * (high - low) + low
        if rng.happens(augment.bias_field):
            knots = rng.field((1, 1, 3, 3, 3)) * 0.15
            field = functional.interpolate(knots, size=x.shape, mode="trilinear", align_corners=True)[0, 0]
            x = x + field * (x + 3.0)  # 3: z-scores put the darkest tissue about there, where a product would be 0
        if rng.happens(augment.noise):
            x = x + rng.field(tuple(x.shape)) * rng.uniform(0.02, 0.25)
        contrast = rng.uniform(1 - augment.contrast, 1 + augment.contrast)
        channels.append(x * contrast + rng.uniform(-augment.brightness, augment.brightness))
    present = image.flatten(1).abs().amax(dim=1) > 0
    return torch.stack(channels) * head * present[:, None, None, None]


def _thick_slices(x: torch.Tensor, rng: Chance) -> torch.Tensor:
    axis = rng.below(3)
    thickness = 2 + rng.below(3)
    size = [n if i != axis else max(n // thickness, 1) for i, n in enumerate(x.shape)]
    thick = functional.interpolate(x[None, None], size=size, mode="area")
    return functional.interpolate(thick, size=x.shape, mode="trilinear", align_corners=False)[0, 0]


def drop_sequences(image: torch.Tensor, augment: AugmentConfig, rng: Chance) -> torch.Tensor:
    """With ``augment.drop_sequence``, blank one to three sequences; one is left at least."""
    if not rng.happens(augment.drop_sequence):
        return image
    share = rng.uniform(0.0, 1.0)
    count = 1 if share < 0.7 else 2 if share < 0.9 else 3
    blank = rng.choose(count, augment.drop_odds)
    image = image.clone()
    image[blank] = 0.0
    return image
