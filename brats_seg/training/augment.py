"""Samples for training: cut, deformed and altered in torch, on the device that trains.

Every random number comes from the generator passed in, which the loop seeds by step, so that a resumed
run sees what an unbroken one would have seen. Images are ``(4, x, y, z)`` z-scores, targets
``(3, x, y, z)`` in 0..1 (the share of a voxel that belongs to WT, TC, ET).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from brats_seg.training.config import AugmentConfig, TrainConfig
from brats_seg.training.data import LEVELS_PER_STD, TrainingCase


def draw_sample(
    cases: Sequence[TrainingCase], index: int, patch: tuple[int, int, int], config: TrainConfig, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented sample of ``cases[index]``: image ``(4, *patch)`` and target ``(3, *patch)``."""
    case, augment = cases[index], config.augment
    donor = None
    if len(cases) > 1 and _chance(augment.transplant, rng):
        other = int(torch.randint(len(cases) - 1, (), generator=rng, device=rng.device))
        donor = cases[other if other < index else other + 1]
    focus = donor or case
    centre = _centre(focus, config, rng)
    grid = _sampling_grid(patch, config, rng)
    image, target = _cut(case, grid, centre + _shift_between(focus, case))
    if donor is not None:
        image, target = _transplant(image, target, *_cut(donor, grid, centre), rng)
    head = (image != 0).any(dim=0)
    image = alter(image, head, augment, rng)
    return drop_sequences(image, augment.drop_sequence, rng), target


def _chance(probability: float, rng: torch.Generator) -> bool:
    return bool(torch.rand((), generator=rng, device=rng.device) < probability)


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng, device=rng.device))


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def _shift_between(source: TrainingCase, target: TrainingCase) -> torch.Tensor:
    """Voxels from a place in one brain to the same place in another, brain centre on brain centre."""
    device = source.image.device
    return (torch.tensor(target.shape, device=device) - torch.tensor(source.shape, device=device)) / 2.0


def _centre(case: TrainingCase, config: TrainConfig, rng: torch.Generator) -> torch.Tensor:
    """Voxel the sample is centred on: a tumour voxel of a region drawn at random, or about the brain's centre."""
    device = case.image.device
    filled = [voxels for voxels in case.tumour_voxels if len(voxels)]
    jitter = _normal((3,), rng).to(device)
    if filled and _chance(config.tumour_centred, rng):
        voxels = filled[int(torch.randint(len(filled), (), generator=rng, device=rng.device))]
        chosen = voxels[int(torch.randint(len(voxels), (), generator=rng, device=rng.device))]
        return chosen.float() + jitter * (8.0 / config.spacing_mm)
    size = torch.tensor(case.shape, device=device, dtype=torch.float32)
    if config.tumour_centred > 0:
        # the middle of the box, where there is brain rather than the air around it
        return (0.2 + 0.6 * torch.rand(3, generator=rng, device=rng.device).to(device)) * size
    return (size - 1) / 2 + jitter * (6.0 / config.spacing_mm)


def _rotation(angles: Sequence[float]) -> torch.Tensor:
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        turn = torch.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _sampling_grid(patch: tuple[int, int, int], config: TrainConfig, rng: torch.Generator) -> torch.Tensor:
    """Offsets ``(x, y, z, 3)`` in voxels from the centre to where each voxel of the patch is read."""
    augment, device = config.augment, rng.device
    angles = [math.radians(float(a)) for a in _normal((3,), rng) * augment.rotation_deg]
    matrix = _rotation(angles) * _uniform(1 - augment.scale, 1 + augment.scale, rng)
    if _chance(augment.flip, rng):
        matrix[:, 0] = -matrix[:, 0]
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T.to(device)
    if _chance(augment.elastic, rng):
        knots = [max(round(n * config.spacing_mm / 32), 2) for n in patch]  # a knot every 32 mm
        field = _normal((1, 3, *knots), rng) * (augment.elastic_mm / config.spacing_mm)
        smooth = functional.interpolate(field, size=patch, mode="trilinear", align_corners=True)
        offsets = offsets + smooth[0].permute(1, 2, 3, 0)
    return offsets


def _cut(case: TrainingCase, offsets: torch.Tensor, centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and target at ``centre + offsets``, trilinear, 0 outside the study."""
    points = offsets + centre
    low = points.amin(dim=(0, 1, 2)).floor().long().tolist()
    high = points.amax(dim=(0, 1, 2)).ceil().long().tolist()
    box = tuple(
        slice(max(a, 0), max(min(b + 1, n), max(a, 0) + 1)) for a, b, n in zip(low, high, case.shape, strict=True)
    )
    box = tuple(slice(min(s.start, n - 1), min(s.stop, n)) for s, n in zip(box, case.shape, strict=True))
    both = torch.cat(
        [case.image[(slice(None), *box)].float() / LEVELS_PER_STD, case.regions[(slice(None), *box)] / 255.0]
    )
    size = torch.tensor(both.shape[1:], device=points.device, dtype=torch.float32)
    start = torch.tensor([s.start for s in box], device=points.device)
    unit = 2 * (points - start) / (size - 1).clamp(min=1) - 1
    cut = functional.grid_sample(both[None], unit.flip(-1)[None], mode="bilinear", align_corners=True)[0]
    return cut[:4], cut[4:]


def _transplant(
    image: torch.Tensor,
    target: torch.Tensor,
    donor_image: torch.Tensor,
    donor_target: torch.Tensor,
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Place the donor's lesion, with a rim of random width, into the sample (CarveMix, arXiv:2108.06883)."""
    width = 2 * int(torch.randint(0, 4, (), generator=rng, device=rng.device)) + 1
    lesion = (donor_target[:1] > 0.5).float()
    carve = functional.max_pool3d(lesion[None], width, stride=1, padding=width // 2)[0]
    carve = carve * (donor_image != 0).any(dim=0) * (image != 0).any(dim=0)
    soft = functional.avg_pool3d(carve[None], 3, stride=1, padding=1)[0] * (image != 0).any(dim=0)
    return image * (1 - soft) + donor_image * soft, torch.where(carve > 0.5, donor_target, target)


def alter(image: torch.Tensor, head: torch.Tensor, augment: AugmentConfig, rng: torch.Generator) -> torch.Tensor:
    """Contrast, brightness, gamma, bias field, noise, blur and thick slices, each sequence on its own."""
    channels = []
    for channel in image:
        x = channel
        if _chance(augment.blur, rng):
            x = torch.lerp(x, functional.avg_pool3d(x[None, None], 3, 1, 1)[0, 0], _uniform(0.3, 1.0, rng))
        if _chance(augment.thick_slices, rng):
            x = _thick_slices(x, rng)
        if _chance(augment.gamma, rng):
            low, high = x.amin(), x.amax()
            unit = (x - low) / (high - low).clamp(min=1e-6)
            x = unit ** math.exp(_uniform(-0.35, 0.35, rng)) * (high - low) + low
        if _chance(augment.bias_field, rng):
            knots = _normal((1, 1, 3, 3, 3), rng) * 0.15
            field = functional.interpolate(knots, size=x.shape, mode="trilinear", align_corners=True)[0, 0]
            x = x + field * (x + 3.0)  # 3: z-scores put the darkest tissue about there, where a product would be 0
        if _chance(augment.noise, rng):
            x = x + _normal(tuple(x.shape), rng) * _uniform(0.02, 0.25, rng)
        contrast = _uniform(1 - augment.contrast, 1 + augment.contrast, rng)
        channels.append(x * contrast + _uniform(-augment.brightness, augment.brightness, rng))
    present = image.flatten(1).abs().amax(dim=1) > 0
    return torch.stack(channels) * head * present[:, None, None, None]


def _thick_slices(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    axis = int(torch.randint(3, (), generator=rng, device=rng.device))
    thickness = int(torch.randint(2, 5, (), generator=rng, device=rng.device))
    size = [n if i != axis else max(n // thickness, 1) for i, n in enumerate(x.shape)]
    thick = functional.interpolate(x[None, None], size=size, mode="area")
    return functional.interpolate(thick, size=x.shape, mode="trilinear", align_corners=False)[0, 0]


def drop_sequences(image: torch.Tensor, probability: float, rng: torch.Generator) -> torch.Tensor:
    """With ``probability``, blank one to three sequences; one is left at least."""
    if not _chance(probability, rng):
        return image
    count = 1 + int(torch.multinomial(torch.tensor([0.7, 0.2, 0.1], device=rng.device), 1, generator=rng))
    blank = torch.randperm(image.shape[0], generator=rng, device=rng.device)[:count]
    image = image.clone()
    image[blank.to(image.device)] = 0.0
    return image
