"""A label map that was given is held against its scan: inside the head, and the right way round."""

from __future__ import annotations

import numpy as np
import pytest
from heads import head_grid, head_image

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Volume
from brats_seg.core.study import MRSequence
from brats_seg.track.map_on_scan import check_map_on_scan, mirrored_among

GRID = head_grid("LPS", spacing_mm=(2.0, 2.0, 2.0))
POINTS = GRID.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in GRID.shape], indexing="ij"), -1))
TUMOUR = np.linalg.norm(POINTS - (19, 14, 3), axis=-1) < 8
"""Away from the midline, where a mirrored one would be elsewhere."""


def flair() -> Volume:
    """A head whose only bright place is the tumour."""
    head = head_image(GRID, MRSequence.FLAIR)
    noise = np.random.default_rng(0).normal(100, 10, GRID.shape)
    return head.with_data(np.where(head.data > 0, noise + 60 * TUMOUR, 0).astype(np.float32))


FLAIR = flair()


def check(tumour: np.ndarray, *, sequence: MRSequence = MRSequence.FLAIR, volume: Volume = FLAIR) -> tuple[str, ...]:
    return check_map_on_scan(volume.with_data(tumour), volume, sequence, name="m.nii.gz")


def test_a_map_on_its_scan_is_taken_without_a_word() -> None:
    assert check(TUMOUR) == ()
    stored = FLAIR.with_data(TUMOUR).to_ras()
    assert check_map_on_scan(stored, FLAIR, MRSequence.FLAIR, name="m.nii.gz") == ()
    assert check(np.zeros_like(TUMOUR)) == ()


@pytest.mark.parametrize(("axis", "words"), [(0, "mirrored left to right"), (1, "mirrored front to back")])
def test_a_mirrored_map_is_refused(axis: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check(np.flip(TUMOUR, axis))


def test_a_map_outside_the_head_is_refused() -> None:
    with pytest.raises(InputError, match="outside the head"):
        check(np.roll(TUMOUR, 30, axis=0))
    away = Volume.from_affine(TUMOUR, FLAIR.affine + np.array([[0, 0, 0, 400.0]] * 3 + [[0] * 4]))
    with pytest.raises(InputError, match="100% of its tumour lies outside the head"):
        check_map_on_scan(away, FLAIR, MRSequence.FLAIR, name="m.nii.gz")


def test_maps_without_scans_are_held_against_each_other() -> None:
    grown = np.linalg.norm(POINTS - (19, 14, 3), axis=-1) < 9
    tumours = {name: FLAIR.with_data(mask) for name, mask in (("v1", TUMOUR), ("v2", grown), ("v3", grown[::-1]))}
    (words,) = mirrored_among({**tumours, "v4": FLAIR.with_data(np.zeros_like(TUMOUR))})
    assert words == "the label map of v3 lies where that of v1 does if it is mirrored left to right: look at both"
    stored = {"v1": tumours["v1"], "v2": tumours["v2"].flip(0)}  # another storage order of the same place
    assert list(mirrored_among(stored)) == []
