"""Exchanged names are seen in the images, and images with the right names draw no comment."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from real_scans import study_of
from scipy import ndimage

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.brain import brain_mask, foregrounds
from brats_seg.imaging.identify import check_identity

T1, T1CE, T2, FLAIR = SEQUENCES
Images = dict[MRSequence, Volume]

SIGNAL = {
    # fluid, grey, white, edema, vessels
    T1: (150.0, 400.0, 520.0, 360.0, 380.0),
    T1CE: (150.0, 400.0, 520.0, 360.0, 1100.0),
    T2: (900.0, 420.0, 330.0, 560.0, 300.0),
    FLAIR: (110.0, 420.0, 350.0, 620.0, 330.0),
}


def tissue_map(side: int = 44) -> NDArray[np.int_]:
    """0 outside, 1 fluid, 2 grey, 3 white, 4 edema, 5 vessels: blobs in a ball, nothing like anatomy."""
    rng = np.random.default_rng(11)
    fields = [ndimage.gaussian_filter(rng.normal(size=(side,) * 3), width) for width in (2.0, 2.5, 3.0, 0.8)]
    fluid, white, edema, vessels = (field / field.std() for field in fields)
    tissue = np.where(white > 0, 3, 2)
    tissue[edema > 1.6] = 4
    tissue[fluid > 1.5] = 1
    tissue[vessels > 2.6] = 5
    radius = np.linalg.norm(np.indices((side,) * 3) - (side - 1) / 2, axis=0)
    tissue[radius > side / 2 - 1] = 0
    return tissue


def made_study(*, contrast: bool = True, background: float = 0.0) -> Images:
    tissue = tissue_map()
    rng = np.random.default_rng(12)
    grid = Grid(tissue.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    images = {}
    for sequence, signal in SIGNAL.items():
        levels = np.array((0.0, *(SIGNAL[T1] if sequence is T1CE and not contrast else signal)))
        image = np.clip(levels[tissue] + rng.normal(0, 25, tissue.shape), 1, None)
        images[sequence] = Volume(np.where(tissue > 0, image + background, background).astype(np.float32), grid)
    return images


def exchanged(images: Images, a: MRSequence, b: MRSequence) -> Images:
    return {**images, a: images[b], b: images[a]}


def inverted(images: Images, *which: MRSequence) -> Images:
    """Bright and dark exchanged inside the brain; the background stays."""
    turned = {s: images[s].data for s in which}
    return {**images, **{s: images[s].with_data(np.where(d > 0, d.max() + 1 - d, 0)) for s, d in turned.items()}}


@pytest.fixture(scope="module")
def made() -> Images:
    return made_study()


PAIRS = list(itertools.combinations(SEQUENCES, 2))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_right_names_draw_no_comment(made: Images, count: int) -> None:
    for subset in itertools.combinations(SEQUENCES, count):
        images = {sequence: made[sequence] for sequence in subset}
        assert check_identity(images, brain_mask(made)) == (), subset


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].title}-{pair[1].title}")
def test_every_exchange_of_two_is_named(made: Images, pair: tuple[MRSequence, MRSequence]) -> None:
    (warning,) = check_identity(exchanged(made, *pair), brain_mask(made))
    assert dict(warning.looks_like) == {pair[0]: pair[1], pair[1]: pair[0]}
    assert str(warning).startswith(f"{pair[0].title} and {pair[1].title} look exchanged: ")
    assert any(character.isdigit() for character in warning.evidence)


@pytest.mark.parametrize("which", [(T1,), (T1CE,), (T2,), (FLAIR,), SEQUENCES])
def test_inverted_images_are_named(made: Images, which: tuple[MRSequence, ...]) -> None:
    (warning,) = check_identity(inverted(made, *which), brain_mask(made))
    assert set(warning.looks_like) == set(which)
    assert "inverted" in str(warning)


def test_three_names_that_went_round_are_named(made: Images) -> None:
    round_ = {**made, T1: made[T2], T2: made[FLAIR], FLAIR: made[T1]}
    (warning,) = check_identity(round_, brain_mask(made))
    assert dict(warning.looks_like) == {T1: T2, T2: FLAIR, FLAIR: T1}
    assert "T1, T2 and FLAIR look exchanged" in str(warning)


def test_a_pair_alone_is_enough_where_it_can_be(made: Images) -> None:
    for pair in [(T1, T1CE), (T1, T2), (T1CE, T2), (T2, FLAIR)]:
        images = {sequence: made[sequence] for sequence in pair}
        (warning,) = check_identity(exchanged(images, *pair), brain_mask(made))
        assert set(warning.looks_like) == set(pair)


def test_without_contrast_agent_t1_and_t1ce_stay_undecided() -> None:
    images = made_study(contrast=False)
    assert check_identity(images, brain_mask(images)) == ()
    assert check_identity(exchanged(images, T1, T1CE), brain_mask(images)) == ()
    same = {**images, T1CE: images[T1]}
    assert check_identity(same, brain_mask(images)) == ()


def test_scale_offset_and_background_do_not_matter() -> None:
    """Another background for each file, and 16-bit values: the same verdict."""
    images = {s: v.with_data(v.data * 29 - 700 * i) for i, (s, v) in enumerate(made_study().items())}
    brain = brain_mask(images)
    assert check_identity(images, brain) == ()
    (warning,) = check_identity(exchanged(images, T2, FLAIR), brain)
    assert dict(warning.looks_like) == {T2: FLAIR, FLAIR: T2}


def test_too_little_brain_in_common_stays_undecided(made: Images) -> None:
    wrong = exchanged(made, T2, FLAIR)
    assert check_identity(wrong, np.zeros_like(brain_mask(made))) == ()
    data = np.array(wrong[T1].data)
    data[:, :, 8:] = 0  # a slab of a few slices
    assert check_identity({**wrong, T1: wrong[T1].with_data(data)}, brain_mask(made)) == ()


REAL = ["BraTS-GLI-00000-000", "BraTS2021_01477", "Brats18_TCIA10_639_1"]
"""One strongly enhancing, one almost without enhancement, one with thick slices and 16-bit values."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_studies(real_data: Path, name: str) -> None:
    images = study_of(real_data / "studies" / name)
    shown = foregrounds(images)
    brain = brain_mask(images, shown)
    assert check_identity(images, brain, shown) == ()
    for pair in ((T1, T1CE), (T2, FLAIR), (T1, T2)):
        (warning,) = check_identity(exchanged(images, *pair), brain, shown)
        assert dict(warning.looks_like) == {pair[0]: pair[1], pair[1]: pair[0]}
    for sequence in (T1CE, FLAIR):
        (warning,) = check_identity(inverted(images, sequence), brain, shown)
        assert dict(warning.looks_like) == {sequence: sequence}
