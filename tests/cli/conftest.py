"""A small model, small studies, and the command line run as a user runs it, for the tests of this folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_studies import LARGE_VOXELS, Outcome, write_case, write_model

from brats_seg.cli import main
from brats_seg.core.errors import InputError
from brats_seg.core.scans import RigidMotion
from brats_seg.models import card
from brats_seg.track import follow
from brats_seg.track.align import HeadScan, align_visits


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that calls what is bright in T1CE enhancing tumour: the lesion of the small heads."""
    return write_model(tmp_path_factory.mktemp("models") / "small", bias=-30.0, gain=15.0)


@pytest.fixture
def model_of_the_package(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model stands in the place of the one that comes with the package."""
    shutil.copytree(model, tmp_path / "weights" / card.DEFAULT_MODEL)
    monkeypatch.setattr(card, "BUILT_IN", tmp_path / "weights")


@pytest.fixture(scope="session")
def blind_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that never finds anything."""
    return write_model(tmp_path_factory.mktemp("models") / "blind", bias=-30.0)


@pytest.fixture(scope="session")
def drawn_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four sequences; not to be changed."""
    return write_case(tmp_path_factory.mktemp("drawn") / "case")


@pytest.fixture
def case(drawn_case: Path, tmp_path: Path) -> Path:
    """A study of four sequences that a test may change."""
    return Path(shutil.copytree(drawn_case, tmp_path / "in" / "case"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder that does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def segment(cli: Callable[..., Outcome], model: Path, out: Path) -> Callable[..., Outcome]:
    """``segment … -o out`` with the small model and without the report, which takes longest."""

    def run(*arguments: object, report: bool = False) -> Outcome:
        rest = [] if report else ["--no-report"]
        if "--model" not in arguments:
            rest += ["--model", model]
        return cli("segment", *arguments, "-o", out, *rest)

    return run


@pytest.fixture(autouse=True, scope="module")
def small_brains_are_whole() -> Iterator[None]:
    """The brains of these tests measure 250 ml, a quarter of a real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brats_seg.imaging.consistency.BRAIN_ML", (200.0, 2000.0))
        yield


@pytest.fixture(autouse=True, scope="module")
def lesions_are_compared_on_large_voxels() -> Iterator[None]:
    """The comparison of a lesion in both images, in voxels of a millimetre, would take most of every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*LARGE_VOXELS)
        yield


@pytest.fixture(autouse=True, scope="session")
def the_same_visits_are_aligned_once() -> Iterator[None]:
    """Aligning two visits takes two seconds, and most tests follow the same three: what was found is found again."""
    answers: dict[str, RigidMotion | InputError] = {}

    def align(moving: HeadScan, fixed: HeadScan) -> RigidMotion:
        seen = hashlib.sha256()
        for scan in (moving, fixed):
            grid = scan.volume.grid
            seen.update(repr((scan.name, scan.sequence, grid.shape, grid.affine.tolist())).encode())
            seen.update(scan.volume.data.tobytes())
            seen.update(b"" if scan.tumour is None else scan.tumour.tobytes())
        if seen.hexdigest() not in answers:
            try:
                answers[seen.hexdigest()] = align_visits(moving, fixed)
            except InputError as refusal:
                answers[seen.hexdigest()] = refusal
        answer = answers[seen.hexdigest()]
        if isinstance(answer, InputError):
            raise answer
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "align_visits", align)
        yield
