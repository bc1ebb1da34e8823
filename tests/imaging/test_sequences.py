"""Which sequence an image shows, found out from the images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from heads import head_grid
from real_scans import read, study_of

from brats_seg.core.grid import Volume
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.imaging.sequences import Guess, identify

T1, T1CE, T2, FLAIR = SEQUENCES


@pytest.fixture(scope="module")
def study(real_study: Path) -> dict[MRSequence, Volume]:
    return study_of(real_study)


@pytest.fixture(scope="module")
def plain(study: dict[MRSequence, Volume]) -> dict[str, Guess]:
    return identify(named(study))


def named(study: dict[MRSequence, Volume]) -> dict[str, Volume]:
    return {f"{9 - place}": study[sequence] for place, sequence in enumerate(SEQUENCES)}


def sequences(found: dict[str, Guess]) -> list[MRSequence]:
    return [found[key].sequence for key in sorted(found, reverse=True)]


@pytest.mark.slow
def test_four_images_of_a_real_study_are_surely_told(plain: dict[str, Guess]) -> None:
    assert sequences(plain) == list(SEQUENCES)
    assert all(guess.is_sure for guess in plain.values())
    assert "looks like T1 (" in plain["9"].evidence


@pytest.mark.slow
def test_neither_units_nor_storage_nor_order_matter(study: dict[MRSequence, Volume], plain: dict[str, Guess]) -> None:
    changed = {
        key: Volume.from_affine(3 * volume.data[::-1], volume.affine @ np.array(
            [[-1, 0, 0, volume.data.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
        ))
        for key, volume in sorted(named(study).items())
    }  # fmt: skip
    other = identify(changed)
    assert sequences(other) == sequences(plain)
    assert [other[key].probability for key in plain] == pytest.approx([g.probability for g in plain.values()], abs=0.02)


@pytest.mark.slow
def test_what_is_known_or_cannot_be_is_left_out(study: dict[MRSequence, Volume]) -> None:
    images = named(study)
    found = identify(images, {"7": T2, "6": FLAIR}, (T1, T1CE))
    assert {key: guess.sequence for key, guess in found.items()} == {"9": T1, "8": T1CE}
    alone = identify({"9": images["9"]}, could_be=(T1,))
    assert alone["9"].probability == pytest.approx(1.0)
    assert alone["9"].second is None
    assert identify({"9": images["9"]}, {"9": T1}) == {}


@pytest.mark.slow
def test_heads_with_skull_on_their_own_grids_are_told_or_left_open(real_data: Path) -> None:
    folder = real_data / "native" / "TCGA-FG-6692"
    images = {s.value: read(folder / f"TCGA-FG-6692_{s.value}.nii.gz") for s in SEQUENCES}
    for name, guess in identify(images).items():
        assert guess.sequence.value == name or not guess.is_sure


def test_images_without_content_are_not_guessed() -> None:
    flat = Volume(np.ones((20, 20, 20), np.float32), head_grid(spacing_mm=(5.0, 5.0, 5.0), field_mm=(100, 100, 100)))
    assert identify({"a": flat, "b": flat}) == {}
