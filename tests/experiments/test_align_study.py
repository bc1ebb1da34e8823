"""The experiment on alignment itself, on one motion of one real study."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_seg.core.scans import RigidMotion
from experiments.course import align_study as module
from experiments.course.align_study import TARGET_MM, MotionConfig, MotionTrial, align_study, real_pair, share_within


@pytest.mark.slow
def test_one_real_study_is_aligned_to_its_moved_self(real_study: Path, tmp_path: Path) -> None:
    for path in (*real_study.glob("*_t1ce.nii.gz"), *real_study.glob("*_seg.nii.gz")):  # every other voxel
        image = nib.load(path)
        affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::2, ::2, ::2], affine), tmp_path / path.name)
    seen: list[MotionTrial] = []
    config = MotionConfig(motions=1, altered_share=1.0)
    trials = align_study([tmp_path], np.random.default_rng(3), config=config, on_trial=seen.append)
    assert trials == tuple(seen) and trials[0].altered
    assert trials[0].error_mm <= TARGET_MM < trials[0].shift_mm
    assert trials[0].uncertainty_mm < TARGET_MM


@pytest.mark.parametrize(("errors", "share"), [((0.1, 0.5, 0.6, np.inf), 0.5), ((0.2,), 1.0)])
def test_the_share_counts_what_was_refused(errors: tuple[float, ...], share: float) -> None:
    trials = [MotionTrial("s", False, error, error, 0.0, 5.0, 5.0) for error in errors]
    assert share_within(trials) == share


def test_a_pair_is_told_by_the_overlap_of_its_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for visit in ("v1", "v2"):  # one outline, and nothing alike inside
        head = np.pad(rng.uniform(50, 100, (16, 16, 16)), 4).astype(np.float32)
        (tmp_path / visit).mkdir()
        nib.save(nib.Nifti1Image(head, np.diag([8.0, 8.0, 8.0, 1.0])), tmp_path / visit / f"{visit}_t1.nii.gz")
    found = RigidMotion(np.eye(4), 1.2, 0.97, 3.0, 2.0, by="head")
    monkeypatch.setattr(module, "align_visits", lambda *_: found)
    quality = real_pair(tmp_path / "v1", tmp_path / "v2")[0]
    assert quality.overlap_before == quality.overlap_after == 1
