"""Augmentation: the same seed gives the same sample, air stays air, and labels follow their voxels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_packs import UNALTERED, toy_packs

from brats_seg.imaging.settings import PrepareConfig
from brats_seg.networks.attention_unet import AttentionUNetConfig
from brats_seg.train import augment as module
from brats_seg.train.augment import Chance, alter, draw_sample, drop_sequences
from brats_seg.train.config import AugmentConfig, TrainConfig
from brats_seg.train.data import LEVELS_PER_STD, Prior, TrainingCase, training_case

CPU = torch.device("cpu")
PATCH = (16, 24, 16)
CASES = [training_case(pack, factor=2, device=CPU) for pack in toy_packs()]


def settings(augment: AugmentConfig, *, tumour_centred: float = 0.0) -> TrainConfig:
    return TrainConfig(
        patches=(PATCH,),
        tumour_centred=tumour_centred,
        augment=augment,
        network=AttentionUNetConfig(widths=(8, 16), depths=(1, 1)),
        prepare=PrepareConfig(divisor=8),
    )


def rng(seed: int) -> Chance:
    return Chance(seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def certain(**changes: float) -> AugmentConfig:
    """Nothing but what is named."""
    return replace(UNALTERED, **changes)


@pytest.mark.parametrize("tumour_centred", [0.0, 1.0])
def test_the_same_seed_gives_the_same_sample_and_another_one_another(tumour_centred: float) -> None:
    config = settings(AugmentConfig(), tumour_centred=tumour_centred)
    first, again, other = (draw_sample(CASES, 0, PATCH, config, rng(seed)) for seed in (7, 7, 8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_samples_have_their_shapes_and_ranges() -> None:
    config = settings(AugmentConfig(), tumour_centred=0.5)
    for seed in range(10):
        image, target = draw_sample(CASES, seed % 2, PATCH, config, rng(seed))
        assert image.shape == (4, *PATCH)
        assert target.shape == (3, *PATCH)
        assert torch.isfinite(image).all()
        assert target.min() >= 0
        assert target.max() <= 1 + 1e-6
        assert (target[1] <= target[0] + 1e-6).all()
        assert (target[2] <= target[1] + 1e-6).all()


def test_without_augmentation_a_sample_is_a_piece_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[0]
    monkeypatch.setattr(module, "_centre", lambda *_: (torch.tensor(case.shape) - 1) / 2.0)
    image, target = draw_sample(CASES, 0, case.shape, settings(UNALTERED), rng(0))
    torch.testing.assert_close(image, case.image.float() / LEVELS_PER_STD, atol=1e-4, rtol=0)
    torch.testing.assert_close(target, case.regions / 255.0, atol=1e-4, rtol=0)
    flipped, _ = draw_sample(CASES, 0, case.shape, settings(certain(flip=1.0)), rng(0))
    torch.testing.assert_close(flipped.flip(1), image, atol=1e-4, rtol=0)


def test_a_volume_is_read_between_its_voxels_and_beyond_them() -> None:
    volume = noise(2, 5, 4, 3)
    axes = [torch.arange(n, dtype=torch.float32) for n in volume.shape[1:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    torch.testing.assert_close(module.read_at(volume, points), volume)
    between = module.read_at(volume, points[:-1] + torch.tensor([0.25, 0.0, 0.0]))
    torch.testing.assert_close(between, 0.75 * volume[:, :-1] + 0.25 * volume[:, 1:])
    outside = points + torch.tensor([9.0, 0.0, 0.0])
    assert not module.read_at(volume, outside).any()
    border = module.read_at(volume, outside, beyond="border")
    torch.testing.assert_close(border, volume[:, -1:].expand_as(border))


def test_air_stays_air_and_brain_stays_brain_whatever_is_altered() -> None:
    image = noise(4, 12, 12, 12)
    image[:, :4] = 0
    strong = AugmentConfig(gamma=1, bias_field=1, noise=1, blur=1, thick_slices=1)
    head = (image != 0).any(dim=0)
    for seed in range(8):
        altered = alter(image, head, strong, rng(seed))
        assert not altered[:, :4].any()
        assert (altered[:, 4:] != image[:, 4:]).float().mean() > 0.9


def test_a_missing_sequence_is_not_brought_back_by_noise() -> None:
    image = noise(4, 8, 8, 8)
    image[1] = 0
    altered = alter(image, (image != 0).any(dim=0), AugmentConfig(noise=1, bias_field=1), rng(1))
    assert not altered[1].any()
    assert altered[0].any()


@pytest.mark.parametrize("name", ["contrast", "brightness", "gamma", "bias_field", "noise", "blur", "thick_slices"])
def test_every_intensity_setting_alters_the_image(name: str) -> None:
    image = noise(4, 12, 12, 12)
    head = torch.ones(12, 12, 12, dtype=torch.bool)
    torch.testing.assert_close(alter(image, head, UNALTERED, rng(1)), image)
    assert (
        alter(image, head, certain(**{name: 1.0 if name != "contrast" else 0.5}), rng(1)) - image
    ).abs().max() > 0.05


@pytest.mark.parametrize("changes", [{"rotation_deg": 15.0}, {"scale": 0.3}, {"elastic": 1.0, "elastic_mm": 4.0}])
def test_every_spatial_setting_moves_image_and_label_alike(changes: dict[str, float]) -> None:
    plain = draw_sample(CASES, 0, PATCH, settings(UNALTERED), rng(3))
    moved = draw_sample(CASES, 0, PATCH, settings(certain(**changes)), rng(3))
    assert not torch.allclose(plain[1], moved[1], atol=0.05)
    bright = (moved[0][2] > 1.0).float()  # the toy's tumour is bright on T2, by construction
    overlap = 2 * (bright * moved[1][0]).sum() / (bright.sum() + moved[1][0].sum())
    assert overlap > 0.85


def test_tumour_centred_samples_hold_tumour() -> None:
    config = settings(UNALTERED, tumour_centred=1.0)
    shares = [float(draw_sample(CASES, 0, (24, 24, 24), config, rng(seed))[1][0].max()) for seed in range(10)]
    assert min(shares) > 0.5


def test_dropping_blanks_one_to_three_sequences() -> None:
    image = torch.ones(4, 2, 2, 2)
    always = AugmentConfig(drop_sequence=1.0)
    blanked = [int((drop_sequences(image, always, rng(seed)).flatten(1).sum(1) == 0).sum()) for seed in range(60)]
    assert set(blanked) == {1, 2, 3}
    assert blanked.count(1) > blanked.count(2) > 0
    assert image.all()  # the sample itself is not written to
    assert drop_sequences(image, AugmentConfig(drop_sequence=0.0), rng(0)) is image


def gone_with(augment: AugmentConfig, draws: int) -> torch.Tensor:
    """Share of draws in which each sequence is missing."""
    gone = [drop_sequences(torch.ones(4, 1, 1, 1), augment, rng(seed)).flatten() == 0 for seed in range(draws)]
    return torch.stack(gone).float().mean(dim=0)


def test_every_sequence_is_dropped_at_times() -> None:
    assert gone_with(AugmentConfig(drop_sequence=1.0), 40).all()


def test_odds_say_which_sequence_is_missing_most() -> None:
    even = gone_with(AugmentConfig(drop_sequence=1.0), 400)
    assert float(even.max() - even.min()) < 0.15
    odd = gone_with(AugmentConfig(drop_sequence=1.0, drop_odds=(1.0, 1.0, 1.0, 5.0)), 400)
    assert float(odd[3]) > 2 * float(odd[:3].max())
    assert bool((odd[:3] > 0).all())


def test_a_transplanted_lesion_brings_its_label() -> None:
    shape = (12, 12, 12)
    image, target = torch.full((4, *shape), 1.0), torch.zeros(3, *shape)
    donor, donor_target = torch.full((4, *shape), 5.0), torch.zeros(3, *shape)
    donor_target[:, 5:8, 5:8, 5:8] = 1.0
    image[:, :, :, :2] = 0  # air
    for seed in range(4):
        sample, other = module._Sample(image, target, None), module._Sample(donor, donor_target, None)
        mixed, label, _ = module._transplant(sample, other, rng(seed))
        assert torch.equal(label, donor_target)
        assert (mixed[:, 6, 6, 6] == 5).all()
        assert (mixed[:, 0, 0, 11] == 1).all()
        assert not mixed[:, :, :, :2].any()


def test_a_transplant_keeps_the_lesion_that_was_there() -> None:
    shape = (12, 12, 12)
    image, target = torch.full((4, *shape), 1.0), torch.zeros(3, *shape)
    target[0, 0:2, 0:2, 0:2] = 1.0
    donor, donor_target = torch.full((4, *shape), 5.0), torch.zeros(3, *shape)
    donor_target[:, 8:10, 8:10, 8:10] = 1.0
    sample, other = module._Sample(image, target, None), module._Sample(donor, donor_target, None)
    label = module._transplant(sample, other, rng(0)).target
    assert label[0, 0, 0, 0] == 1
    assert label[0, 8, 8, 8] == 1


def test_samples_with_a_donor_hold_the_donors_tumour_in_the_other_brain() -> None:
    config = settings(certain(transplant=1.0), tumour_centred=1.0)
    found = [draw_sample(CASES, 0, PATCH, config, rng(seed))[1][0].max() > 0.5 for seed in range(6)]
    assert all(found)
    alone = draw_sample(CASES[:1], 0, PATCH, config, rng(0))  # no donor to take from
    assert alone[0].shape == (4, *PATCH)


def cube(value: int, side: int = 8) -> TrainingCase:
    image = torch.full((4, side, side, side), value, dtype=torch.int8)
    return TrainingCase("cube", image, torch.full((3, side, side, side), 255, dtype=torch.uint8), ())


def test_cubes_of_other_patients_are_placed_into_the_head_with_their_labels() -> None:
    config = replace(settings(UNALTERED), cubes=3)
    seen = 0
    for seed in range(6):
        plain, plain_target = draw_sample(CASES, 0, PATCH, config, rng(seed))
        image, target = draw_sample(CASES, 0, PATCH, config, rng(seed), cubes=[cube(100)])
        labelled, altered = (target != plain_target).any(dim=0), (image != plain).any(dim=0)
        assert (target[:, labelled] == 1).all()
        assert (altered | ~labelled).all()
        assert not (altered & ~(plain != 0).any(dim=0)).any()  # air stays air
        assert (image[:, labelled] > 0.5 * 100 / LEVELS_PER_STD - 1).all()
        seen += int(labelled.sum() > 50)
    assert seen >= 3


def test_what_the_coarse_stage_would_find_in_a_cube_is_even_odds() -> None:
    logits = torch.full((1, 3, *CASES[0].shape), 64, dtype=torch.int8)
    case = replace(CASES[0], prior=Prior(logits, ((),), 1.0))
    config = replace(settings(UNALTERED), cubes=1)
    found = [draw_sample([case], 0, PATCH, config, rng(seed), cubes=[cube(100)])[0] for seed in range(8)]
    assert any(torch.isclose(image[4:], torch.tensor(0.5)).any() for image in found)
    assert all(image[4:].min() >= 0.5 - 1e-6 for image in found)


def narrowed(case: TrainingCase, seed: int, share: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_centre", lambda *_: (torch.tensor(case.shape) - 1) / 2.0)
        return draw_sample([case], 0, case.shape, settings(certain(field_of_view=share)), rng(seed))


def test_a_narrow_field_of_view_shows_a_slab_normalised_by_itself() -> None:
    case = CASES[0]
    head = (narrowed(case, 0, share=0.0)[0] != 0).any(dim=0)
    axes = set()
    for seed in range(12):
        image, target = narrowed(case, seed)
        shown = (image != 0).any(dim=0)
        box = [torch.nonzero(shown.any(dim=a).any(dim=b)).flatten() for a, b in ((1, 1), (0, 1), (0, 0))]
        within = torch.zeros_like(head)
        within[tuple(slice(int(side.min()), int(side.max()) + 1) for side in box)] = True
        assert torch.equal(shown, head & within)
        assert 0.2 < shown.sum() / head.sum() < 0.99
        assert image[:, shown].mean(dim=1).abs().max() < 0.05
        assert (image[:, shown].std(dim=1) - 1).abs().max() < 0.05
        torch.testing.assert_close(target, case.regions / 255.0 * within, atol=1e-4, rtol=0)
        axes |= {axis for axis, side in enumerate(box) if len(side) < 0.95 * case.shape[axis]}
    assert axes == {0, 1, 2}


def test_a_missing_sequence_stays_missing_in_a_narrow_field_of_view() -> None:
    image = CASES[0].image.clone()
    image[1] = 0
    narrow, _ = narrowed(replace(CASES[0], image=image), 0)
    assert not narrow[1].any()
    assert narrow[0].any()


def test_the_coarse_stage_finds_nothing_outside_a_narrow_field_of_view() -> None:
    logits = torch.full((1, 3, *CASES[0].shape), 64, dtype=torch.int8)
    image, _ = narrowed(replace(CASES[0], prior=Prior(logits, ((),), 1.0)), 0)
    shown = (image[:4] != 0).any(dim=0)
    assert image[4:, shown].min() > 0.9
    assert image[4:].min() < 0.01
