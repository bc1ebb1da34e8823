"""The experiment on alignment itself, on one motion of one real study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.course.align_study import TARGET_MM, MotionConfig, MotionTrial, align_study, share_within


def test_one_real_study_is_aligned_to_its_moved_self(real_data: Path) -> None:
    seen: list[MotionTrial] = []
    config = MotionConfig(motions=1, altered_share=1.0)
    trials = align_study(
        [real_data / "studies" / "BraTS2021_01481"], np.random.default_rng(3), config=config, on_trial=seen.append
    )
    assert trials == tuple(seen) and trials[0].altered
    assert trials[0].error_mm <= TARGET_MM < trials[0].shift_mm
    assert trials[0].uncertainty_mm < TARGET_MM


@pytest.mark.parametrize(("errors", "share"), [((0.1, 0.5, 0.6, np.inf), 0.5), ((0.2,), 1.0)])
def test_the_share_counts_what_was_refused(errors: tuple[float, ...], share: float) -> None:
    trials = [MotionTrial("s", False, error, error, 0.0, 5.0, 5.0) for error in errors]
    assert share_within(trials) == share
