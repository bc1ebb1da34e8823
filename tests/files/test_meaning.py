"""What the numbers of a label map mean: values, shape and name, in this order, and a question where they do not do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from glioma import REGIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.core.labels import SCHEMAS, LabelSchema, Structure
from brats_seg.files.meaning import LabelMeaning, meaning_of, schemas_of_name, shared_meaning
from brats_seg.imaging.boxes import bounding_box

NUMBERS = (
    *("BraTS2021_00001_seg.nii.gz", "Brats18_TCIA10_639_1_seg.nii.gz"),
    *("BraTS-GLI-00001-000-seg.nii.gz", "x.nii.gz"),
)


def ball(radius: float, centre: tuple[float, float, float] = (24, 24, 24)) -> np.ndarray:
    grid = np.indices((48, 48, 48)) - np.array(centre).reshape(3, 1, 1, 1)
    return (grid**2).sum(0) <= radius**2


def rim(edema: int, necrosis: int, enhancing: int) -> np.ndarray:
    """A glioblastoma: edema around a rim of enhancement around necrosis."""
    labels = np.zeros((48, 48, 48), np.uint8)
    for radius, number in ((20, edema), (12, enhancing), (9, necrosis)):
        labels[ball(radius)] = number
    return labels


def cavity(edema: int, hole: int, beside: int) -> np.ndarray:
    """A treated tumour without enhancement: edema around a cavity with a little necrosis at its wall."""
    labels = np.zeros((48, 48, 48), np.uint8)
    for mask, number in ((ball(20), edema), (ball(4, (24, 24, 35)), beside), (ball(11), hole)):
        labels[mask] = number
    return labels


def speckled(edema: int, necrosis: int, enhancing: int) -> np.ndarray:
    """A low-grade glioma: specks of enhancement within a large non-enhancing tumour."""
    labels = np.zeros((48, 48, 48), np.uint8)
    for mask, number in ((ball(20), edema), (ball(15), necrosis), (ball(3), enhancing)):
        labels[mask] = number
    return labels


def name_of(labels: np.ndarray, file_name: str = "") -> str:
    return meaning_of(labels, REGIONS, file_name=file_name).schema.name


@pytest.mark.parametrize(
    ("labels", "file_name", "expected"),
    [
        # by shape, with or against the name
        (rim(2, 1, 3), "", "brats2023"),
        (rim(2, 1, 3), "BraTS-GLI-00001-000-seg.nii.gz", "brats2023"),
        (rim(1, 2, 3), "", "nnunet"),
        (rim(1, 2, 3), "BraTS-GLI-00002-000.nii.gz", "nnunet"),
        (rim(2, 1, 4), "", "brats2021"),
        (rim(2, 1, 4), "100118_time1_seg.nii.gz", "brats2021"),
        (rim(4, 2, 1), "", "brats2024ped"),
        # by name where the shape leaves it open
        (speckled(2, 1, 3), "BraTS-GLI-00012-000-seg.nii.gz", "brats2023"),
        (speckled(2, 1, 4), "Brats18_TCIA10_639_1_seg.nii.gz", "brats2021"),
        (cavity(2, 4, 1), "BraTS-GLI-02405-100-seg.nii.gz", "brats2024"),
        (np.where(rim(2, 1, 0) == 0, 0, rim(2, 1, 0)), "BraTS2021_00000_seg.nii.gz", "brats2021"),
        (rim(2, 2, 4), "Brats18_TCIA10_639_1_seg.nii.gz", "brats2021"),
        (np.where(ball(9), 1, 0), "BraTS-MEN-RT-0001-1_gtv.nii.gz", "menrt"),
        (np.where(ball(9), 1, 0), "P7_gtv.nii.gz", "menrt"),
        (np.zeros((4, 4, 4), np.uint8), "anything.nii.gz", "brats2023"),
    ],
)
def test_meanings_that_are_certain(labels: np.ndarray, file_name: str, expected: str) -> None:
    assert name_of(labels, file_name) == expected


@pytest.mark.parametrize(
    ("labels", "file_name", "words"),
    [
        (np.where(ball(9), 1, 0), "BraTS-GLI-00001-000-seg.nii.gz", "--schema whole if it is the whole tumour"),
        (np.where(ball(9), 1, 0), "BraTS2021_00001_seg.nii.gz", "mask of one whole region"),
        (np.where(ball(9), 255, 0), "", "nothing but 0 and 255"),
        (cavity(2, 4, 1), "100118_time1_seg.nii.gz", "brats2024 (1 NCR, 2 ED, 3 ET, 4 RC)"),
        (cavity(2, 4, 1), "", "brats2021"),
        (cavity(2, 4, 1), "BraTS-PED-00001-000-seg.nii.gz", "brats2021"),
        (speckled(2, 1, 3), "", "{1, 2, 3} mean different things"),
        (speckled(2, 1, 4), "", "{1, 2, 4} mean different things"),
        (rim(1, 2, 2), "BraTS2021_00001.nii.gz", "hdglio"),
        (rim(1, 2, 2), "", "hdglio"),
        (rim(2, 1, 1), "", "brats2023"),
        (rim(2, 2, 4), "", "brats2024"),
        (rim(1, 2, 4), "BraTS2021_00001.nii.gz", "fit no schema"),  # the numbers of nnU-Net with 3 made 4
        (rim(1, 9, 9), "", "fit no schema"),
        (np.where(ball(4, (24, 24, 40)), 4, rim(2, 1, 3)), "", "brats2015"),  # 4 a cavity, or 3 no enhancement
    ],
)
def test_meanings_that_have_to_be_asked(labels: np.ndarray, file_name: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        name_of(labels, file_name)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    if "no schema" not in words:
        assert "--schema" in str(caught.value)


def test_a_name_that_the_shape_contradicts_is_said() -> None:
    meaning = meaning_of(rim(1, 2, 3), REGIONS, file_name="BraTS-GLI-00002-000.nii.gz")
    assert "1 lies outside, as edema does" in meaning.doubt and "nnunet" in meaning.doubt
    assert meaning_of(rim(2, 1, 3), REGIONS, file_name="BraTS-GLI-00002-000.nii.gz").doubt == ""


def test_what_the_name_alone_decides_is_said() -> None:
    """Numbers of nnU-Net under a name of 2023 look the same."""
    labels = np.zeros((48, 48, 48), np.uint8)
    for mask, number in ((ball(11, (12, 24, 24)), 1), (ball(11, (35, 24, 24)), 2), (ball(4), 3)):
        labels[mask] = number
    meaning = meaning_of(labels, REGIONS, file_name="BraTS-GLI-00012-000-seg.nii.gz")
    assert meaning.schema.name == "brats2023"
    assert "by its name alone" in meaning.doubt and "nnunet" in meaning.doubt


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([rim, speckled, cavity]),
    st.permutations([0, 1, 2]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from(NUMBERS),
)
def test_storage_does_not_change_the_meaning(
    shape: Callable[..., np.ndarray], axes: list[int], flips: tuple[bool, ...], name: str
) -> None:
    labels = shape(2, 1, 4) if shape is not cavity else shape(2, 4, 1)
    stored = np.flip(np.transpose(labels, axes), [axis for axis, flip in enumerate(flips) if flip])
    one, other = (meaning_of(array, REGIONS, file_name=name) for array in (labels, stored))
    assert (one.possible, one.why, one.doubt) == (other.possible, other.why, other.doubt)


def test_one_schema_for_all_visits() -> None:
    after = meaning_of(cavity(2, 4, 1), REGIONS)
    assert not after.is_certain
    assert shared_meaning({"v1": meaning_of(rim(2, 1, 3), REGIONS), "v2": after}).name == "brats2024"
    assert (
        shared_meaning({"v1": meaning_of(rim(2, 1, 4), REGIONS), "v2": meaning_of(rim(2, 2, 4), REGIONS)}).name
        == "brats2021"
    )
    assert (
        shared_meaning(
            {
                "v1": meaning_of(np.zeros((3, 3, 3), int), REGIONS),
                "v2": meaning_of(rim(2, 1, 3), REGIONS),
            }
        ).name
        == "brats2023"
    )
    with pytest.raises(InputError, match="--schema"):
        shared_meaning({"v1": after, "v2": after})
    with pytest.raises(InputError, match="do not follow one schema"):
        shared_meaning({"v1": meaning_of(rim(2, 1, 3), REGIONS), "v2": meaning_of(rim(1, 2, 3), REGIONS)})


def test_names_that_say_nothing() -> None:
    assert schemas_of_name("patient_seg.nii.gz") == schemas_of_name("BraTS-PED-00001-000-seg.nii.gz") == ()


def _known(real_data: Path) -> dict[str, tuple[np.ndarray, LabelSchema]]:
    """Every expert map that is there, with the schema it was written in."""
    found = {}
    for path in sorted(real_data.glob("[st]*/*/*seg.nii.gz")):
        labels = np.asarray(nib.load(path).dataobj).astype(np.uint8)
        found[path.name] = (labels, SCHEMAS["brats2023" if path.name.startswith("BraTS-") else "brats2021"])
    for path in sorted(real_data.glob("packed/*.npz")):
        name = f"{path.stem}_seg.nii.gz"
        found[name] = (np.load(path)["seg"], SCHEMAS["brats2023" if name.startswith("BraTS-") else "brats2021"])
    return found


def _agree(meaning: LabelMeaning, truth: LabelSchema) -> bool:
    return meaning.is_certain and all(meaning.schema.values[n] is truth.values[n] for n in meaning.values)


@pytest.mark.slow
def test_every_known_label_map_is_read_right(real_data: Path) -> None:
    known = _known(real_data)
    assert len(known) == 49
    doubted = 0
    for number, (name, (whole, truth)) in enumerate(known.items()):
        labels = np.pad(whole[bounding_box(whole != 0)], 2)  # all that is looked at
        named = meaning_of(labels, REGIONS, file_name=name)
        if not name.startswith("brats_"):  # names of 2015 say no schema
            assert _agree(named, truth) and (not named.doubt or "by its name alone" in named.doubt), name
        doubted += bool(named.doubt)
        if number % 4:
            continue
        nameless = meaning_of(labels, REGIONS)
        assert _agree(nameless, truth) or not nameless.is_certain, name
        # in the order of nnU-Net under the same name
        swapped = meaning_of(
            np.array([0, 2, 1, 3, 3], np.uint8)[labels], REGIONS, file_name="BraTS-GLI-00001-000.nii.gz"
        )
        right = swapped.is_certain and swapped.schema.values[1] is Structure.ED
        assert right or not swapped.is_certain or swapped.doubt, name
    assert doubted <= 4
