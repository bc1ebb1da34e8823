"""Defects: each does what it says, is repeatable, and the pipeline's answer to each is what is written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import PreparedStudy, Study
from brats_seg.core.study import SEQUENCES
from brats_seg.files.find import find_study
from brats_seg.files.load import load_study
from brats_seg.files.write import write_volume
from brats_seg.phantom.course import make_visit
from brats_seg.phantom.defects import (
    ALL,
    DAMAGES,
    Defect,
    DefectKind,
    apply_defect,
    damage_bytes,
    draw_defect,
    ghosted,
    kinds_named,
)
from brats_seg.phantom.grids import slice_axis
from brats_seg.phantom.script import PatientKind, draw_course
from brats_seg.segment.prepare import prepare
from tests.phantom.small_phantoms import SMALL
from tests.strategies import affine_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_brains")]  # whole phantoms take seconds

T1, T1CE, T2, FLAIR = SEQUENCES


@pytest.fixture(scope="module")
def study() -> Study:
    """A phantom of half a brain's size."""
    return make_visit(draw_course(1, PatientKind.NONE, visits=1), 0, SMALL).phantom.study


def ball(value: float = 100.0) -> Volume:
    points = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1) - 19.5
    return Volume.from_affine(np.where((points**2).sum(-1) < 15**2, value, 0).astype(np.float32), affine_of("LPS"))


def test_names_of_defects_are_read() -> None:
    assert kinds_named("ghosting, Missing") == (DefectKind.GHOSTING, DefectKind.MISSING)
    assert kinds_named("all") == ALL
    for wrong in ("", "gosting", "missing,missing", "ghosting,,missing"):
        with pytest.raises(UsageError):
            kinds_named(wrong)


@pytest.mark.parametrize("kind", ALL)
def test_the_same_seed_gives_the_same_defect_and_its_record_is_plain(study: Study, kind: DefectKind) -> None:
    first, second = (draw_defect(kind, study, np.random.default_rng(4)) for _ in range(2))
    assert first == second
    record = json.loads(json.dumps(first.to_dict()))
    assert record["defect"] == kind.value
    assert record["sequences"] == [sequence.value for sequence in first.sequences]
    a, b = apply_defect(study, first), apply_defect(study, second)
    for sequence in a.images:
        np.testing.assert_array_equal(a.images[sequence].data, b.images[sequence].data)
        assert a.images[sequence].grid.same_as(study.images[sequence].grid)
    others = [s for s in SEQUENCES if s not in first.sequences]
    assert all(a.images[s] is study.images[s] for s in others)


def test_ghosts_are_shifted_copies_and_background_stays_empty() -> None:
    volume = ball()
    data = volume.data.copy()
    data[:, :3] = 7.0  # something to see a ghost in, away from the ball
    before = volume.with_data(data)
    after = ghosted(before, axis=1, copies=2, strength=0.3, phase=0.0)
    assert float(after.data[20, 1, 20]) == pytest.approx(7.0 + 0.3 * 100.0)
    assert (after.data[before.data == 0] == 0).all()
    quarter = ghosted(before, axis=1, copies=2, strength=0.3, phase=np.pi / 2)
    assert float(quarter.data[20, 1, 20]) == pytest.approx(np.hypot(7.0, 30.0))


def test_dropout_takes_signal_from_the_slices_it_names_alone(study: Study) -> None:
    defect = draw_defect(DefectKind.DROPOUT, study, np.random.default_rng(2))
    sequence, axis = defect.sequences[0], defect.values["axis"]
    assert axis == 2  # axial, where spacings agree
    before = np.moveaxis(study.images[sequence].data, axis, 0)
    after = np.moveaxis(apply_defect(study, defect).images[sequence].data, axis, 0)
    for index in range(len(before)):
        if index in defect.values["slices"]:
            kept = defect.values["kept"][defect.values["slices"].index(index)]
            assert kept <= 0.35 and before[index].any()
            np.testing.assert_allclose(after[index], kept * before[index], rtol=1e-5)
        else:
            np.testing.assert_array_equal(after[index], before[index])


def test_slices_lie_across_the_thickest_side() -> None:
    assert slice_axis(Grid((10, 10, 10), np.diag([1.0, 5.0, 1.0, 1.0]))) == 1
    assert slice_axis(Grid((10, 10, 10), affine_of("PSR"))) == 1


def test_clipping_cuts_at_one_value(study: Study) -> None:
    defect = draw_defect(DefectKind.CLIPPED, study, np.random.default_rng(3))
    sequence, level = defect.sequences[0], defect.values["level"]
    after = apply_defect(study, defect).images[sequence].data
    inside = study.images[sequence].data > 0
    assert after.max() == pytest.approx(level)
    assert 0.08 <= float((after[inside] >= np.float32(level)).mean()) <= 0.25


def test_swapping_and_missing(study: Study) -> None:
    swapped = apply_defect(study, Defect(DefectKind.SWAPPED, (T1, FLAIR)))
    assert swapped.images[T1] is study.images[FLAIR] and swapped.images[FLAIR] is study.images[T1]
    missing = apply_defect(study, Defect(DefectKind.MISSING, (T2,)))
    assert missing.missing == (T2,)
    single = Study("one", {T1: study.images[T1]})
    for kind in (DefectKind.SWAPPED, DefectKind.MISSING):
        with pytest.raises(InputError, match="needs 2 sequences"):
            draw_defect(kind, single, np.random.default_rng(0))
    with pytest.raises(InputError, match="has no FLAIR"):
        apply_defect(single, Defect(DefectKind.MISSING, (FLAIR,)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_named(tmp_path: Path, damage: str) -> None:
    rng = np.random.default_rng(5)
    for sequence in SEQUENCES:
        noisy = ball().with_data(ball().data * rng.uniform(0.5, 1.5, ball().data.shape).astype(np.float32))
        write_volume(noisy, tmp_path / f"case_{sequence.value}.nii.gz")
    path = tmp_path / "case_t2.nii.gz"
    content = path.read_bytes()
    defect = Defect(DefectKind.DAMAGED, (T2,), {"damage": damage, "place": 0.5})
    damaged = damage_bytes(content, defect)
    assert damaged != content
    assert damage_bytes(content, Defect(DefectKind.MISSING, (T2,))) == content
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"T2: case_t2\.nii\.gz"):
        load_study(find_study(tmp_path))


@pytest.fixture(scope="module")
def sound(study: Study) -> PreparedStudy:
    return prepare(study)


def warnings_of(prepared: PreparedStudy) -> str:
    """What preparation warns of, but for the size of these brains, a sixth of a real one's."""
    size, *others = prepared.record.warnings
    assert "the brain measures 2" in size
    return " ".join(others)


def test_preparation_says_what_is_missing_and_what_is_swapped(study: Study, sound: PreparedStudy) -> None:
    assert warnings_of(sound) == ""
    assert "T2 missing" in warnings_of(prepare(apply_defect(study, Defect(DefectKind.MISSING, (T2,)))))
    for pair in ((T1, T1CE), (T1, T2), (T1CE, FLAIR), (T2, FLAIR)):
        assert "look exchanged" in warnings_of(prepare(apply_defect(study, Defect(DefectKind.SWAPPED, pair))))


@pytest.mark.parametrize("kind", [DefectKind.GHOSTING, DefectKind.DROPOUT, DefectKind.CLIPPED])
def test_faults_of_the_scan_itself_do_not_stop_preparation(
    study: Study, sound: PreparedStudy, kind: DefectKind
) -> None:
    """Nothing looks for them yet; what must hold is that no number becomes unusable."""
    for seed in range(3):
        damaged = apply_defect(study, draw_defect(kind, study, np.random.default_rng(seed)))
        prepared = prepare(damaged)
        assert np.isfinite(prepared.array).all()
        assert prepared.brain.sum() == pytest.approx(sound.brain.sum(), rel=0.02)
