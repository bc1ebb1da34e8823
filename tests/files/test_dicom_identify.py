"""Which series is which sequence, by what scanners write and people type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence
from brats_seg.files.dicom import DicomSeries
from brats_seg.files.dicom_choice import choose
from brats_seg.files.dicom_file import DicomSource
from brats_seg.files.dicom_header import Acquisition, Plane
from brats_seg.files.dicom_identify import Confidence, SeriesReading, read_attributes, read_exam

T1, T1CE, T2, FLAIR = MRSequence
MPRAGE: dict[str, Any] = {
    "repetition_time": 2000.0,
    "echo_time": 2.9,
    "inversion_time": 900.0,
    "flip_angle": 9.0,
    "scanning": frozenset({"GR", "IR"}),
    "variant": frozenset({"SP", "MP"}),
    "is_3d": True,
}
SPIN_ECHO: dict[str, Any] = {"repetition_time": 500.0, "echo_time": 12.0, "scanning": frozenset({"SE"}), "is_3d": False}
TSE: dict[str, Any] = {**SPIN_ECHO, "repetition_time": 4800.0, "echo_time": 98.0}
DARK_FLUID: dict[str, Any] = {**SPIN_ECHO, "repetition_time": 9000.0, "echo_time": 120.0, "inversion_time": 2500.0}


def series(number: int, text: str = "", *, slices: int = 24, step_mm: float = 5.0, **how: Any) -> DicomSeries:
    """A series of axial slices, without files."""
    acquired = how.pop("acquired", f"20240131{100000 + number}")
    acquisition = Acquisition(description=(text,) if text else (), acquired=acquired, **how)
    first = Plane(
        source=DicomSource(Path("x")),
        frame=0,
        sop="",
        position=(0.0, 0.0, 0.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        spacing=(0.9, 0.9),
        shape=(256, 256),
        scale=(1.0, 0.0),
        temporal=None,
        acquisition=None,
        expected=None,
        how=acquisition,
    )
    planes = tuple(replace(first, frame=n, position=(0.0, 0.0, n * step_mm)) for n in range(slices))
    return DicomSeries(f"1.2.{number}", number, planes)


def read_one(text: str = "", **how: Any) -> SeriesReading:
    return read_exam([series(1, text, **how)])[0]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (MPRAGE, T1),
        ({**MPRAGE, "inversion_time": None}, T1),
        ({**MPRAGE, "repetition_time": 8.2, "echo_time": 3.2, "inversion_time": 450.0}, T1),  # BRAVO
        ({"repetition_time": 250.0, "echo_time": 2.5, "flip_angle": 70.0, "scanning": frozenset({"GR"})}, T1),  # FLASH
        (SPIN_ECHO, T1),
        ({**SPIN_ECHO, "repetition_time": 700.0, "echo_time": 11.0}, T1),  # SPACE
        ({**SPIN_ECHO, "repetition_time": 2300.0, "echo_time": 24.0, "inversion_time": 860.0}, T1),  # T1 FLAIR
        (TSE, T2),
        ({**TSE, "repetition_time": 3200.0, "echo_time": 408.0}, T2),  # SPACE
        (DARK_FLUID, FLAIR),
        ({**DARK_FLUID, "repetition_time": 5000.0, "echo_time": 388.0, "inversion_time": 1800.0}, FLAIR),  # SPACE
        ({**DARK_FLUID, "inversion_time": None}, None),  # a FLAIR whose inversion time was lost is no T2
        ({**DARK_FLUID, "inversion_time": None, "scanning": frozenset({"SE", "IR"})}, FLAIR),
        ({**SPIN_ECHO, "repetition_time": 3000.0, "echo_time": 14.0}, None),  # proton density
        ({**TSE, "inversion_time": 160.0}, None),  # STIR
        ({"repetition_time": 600.0, "echo_time": 20.0, "flip_angle": 20.0, "scanning": frozenset({"GR"})}, None),  # T2*
        ({**TSE, "scanning": frozenset({"EP", "SE"})}, None),
        ({"repetition_time": 5.0, "echo_time": 2.1, "flip_angle": 50.0, "scanning": frozenset({"GR"}),
          "variant": frozenset({"SS"})}, None),  # FIESTA
    ],
)  # fmt: skip
def test_times_alone(times: dict[str, Any], expected: MRSequence | None) -> None:
    reading = read_one(**times)
    assert reading.sequence is expected
    assert reading.confidence is (Confidence.NONE if expected is None else Confidence.LIKELY)


@pytest.mark.parametrize(
    ("text", "times", "expected"),
    [
        ("t1_mprage_sag KM", MPRAGE, T1CE),
        ("+C Ax T1 FSPGR", MPRAGE, T1CE),
        ("eT1W_3D_TFE GD", MPRAGE, T1CE),
        ("AX T1 W/ GAD", SPIN_ECHO, T1CE),
        ("AX T1 W/O", SPIN_ECHO, T1),
        ("T1 tra pré-gado", SPIN_ECHO, T1),
        ("T1 senza mdc", SPIN_ECHO, T1),
        ("t1_se_tra ohne KM", SPIN_ECHO, T1),
        ("T2W_TSE", TSE, T2),
        ("t2_tirm_tra_dark-fluid", DARK_FLUID, FLAIR),
        ("FLAIR POST", DARK_FLUID, FLAIR),
    ],
)
def test_description_and_times_agree(text: str, times: dict[str, Any], expected: MRSequence) -> None:
    reading = read_one(text, **times)
    assert (reading.sequence, reading.confidence) == (expected, Confidence.SURE)


@pytest.mark.parametrize(
    ("text", "times", "could_be"),
    [
        ("T2 TSE", DARK_FLUID, {T2, FLAIR}),
        ("FLAIR", TSE, {T2, FLAIR}),
        ("T1 TRA", TSE, {T1, T2}),
        ("3D T1 BRAVO POST STEALTH", MPRAGE, {T1, T1CE}),
        ("T1 W/WO", SPIN_ECHO, {T1, T1CE}),
        ("Т1 с контрастом", MPRAGE, {T1, T1CE}),  # with a Cyrillic Т
    ],
)
def test_what_is_contradictory_or_not_understood_stays_open(
    text: str, times: dict[str, Any], could_be: set[MRSequence]
) -> None:
    reading = read_one(text, **times)
    assert reading.confidence is Confidence.OPEN
    assert (reading.sequence, set(reading.could_be)) == (None, could_be)


@pytest.mark.parametrize(
    ("text", "how", "word"),
    [
        ("TOF 3D", MPRAGE, "angiography"),
        ("T1", {**MPRAGE, "is_angiography": True}, "angiography"),
        ("T1 cspine sag", SPIN_ECHO, "part of the body"),
        ("T2", {**TSE, "body_part": "LSPINE"}, "part of the body"),
        ("T1 dynamic", MPRAGE, "none"),
        ("PSIR", MPRAGE, "none"),
        ("T1 mDIXON fat", MPRAGE, "none"),
        ("SUB T1", MPRAGE, "description"),
        ("T1", {**MPRAGE, "image_type": ("DERIVED", "PRIMARY", "MIP")}, "projection"),
        ("T2", {**TSE, "image_type": ("ORIGINAL", "PRIMARY", "P")}, "magnitude"),
        ("T2", {**TSE, "b_value": 1000.0}, "diffusion"),
        ("T2", {**TSE, "slices": 5}, "localiser"),
        ("T2", {**TSE, "step_mm": 1.0}, "localiser"),
    ],
)
def test_what_is_none_of_the_four(text: str, how: dict[str, Any], word: str) -> None:
    reading = read_one(text, **how)
    assert reading.confidence is Confidence.NONE
    assert word in reading.words


def sequences(*exam: DicomSeries) -> list[MRSequence | None]:
    return [reading.sequence for reading in read_exam(exam)]


def test_a_contrast_agent_tells_where_the_description_does_not() -> None:
    assert sequences(series(1, "t1", **MPRAGE), series(2, "t1", **MPRAGE, agent="GADOVIST")) == [T1, T1CE]
    assert sequences(series(1, "t1", **MPRAGE, agent="NONE"), series(2, "t1", **MPRAGE, agent_ml=7.5)) == [T1, T1CE]


def test_an_agent_entered_for_the_whole_exam_tells_nothing() -> None:
    native, enhanced = series(1, "t1 nativ", **MPRAGE, agent="Gd"), series(2, "t1 km", **MPRAGE, agent="Gd")
    assert sequences(native, enhanced) == [T1, T1CE]


def test_an_agent_against_the_description_stays_open() -> None:
    assert sequences(series(1, "t1 nativ", **MPRAGE, agent="Gd")) == [None]
    assert sequences(series(1, "t1 km", **MPRAGE, agent="none")) == [None]


def test_two_alike_of_which_nothing_tells_the_order_of_contrast_stay_open() -> None:
    assert sequences(series(1, "t1", **MPRAGE), series(2, "t1", **MPRAGE)) == [None, None]
    reformatted = series(2, "t1", **MPRAGE, image_type=("DERIVED", "SECONDARY", "MPR"))
    assert sequences(series(1, "t1", **MPRAGE), reformatted) == [T1, T1]


def test_a_t1_after_contrast_is_not_taken_for_a_native_one() -> None:
    exam = series(1, "t1", **SPIN_ECHO), series(2, "t1 km", **MPRAGE), series(3, "t1 cor", **SPIN_ECHO)
    assert sequences(*exam) == [T1, T1CE, None]
    assert read_exam(exam)[0].confidence is Confidence.SURE


def test_of_several_the_best_is_chosen_and_named() -> None:
    thick = series(1, "t1 se km", **SPIN_ECHO)
    reformatted = series(2, "t1 mpr km", slices=200, step_mm=0.9, **MPRAGE, image_type=("DERIVED", "SECONDARY", "MPR"))
    coarse, fine = (series(n, "t1 mprage km", slices=150, step_mm=mm, **MPRAGE) for n, mm in ((3, 1.2), (4, 1.0)))
    later = series(5, "t1 mprage km", slices=150, step_mm=1.0, **MPRAGE)
    choice = choose([thick, reformatted, coarse, fine, later], {})
    assert choice.chosen[T1CE].series is later
    assert "series 5" in choice.decisions[0]
    assert "chosen of 5" in choice.decisions[0]
    broken = replace(later, planes=(*later.planes[:5], *later.planes[6:]))
    second = choose([thick, fine, broken], {})
    assert second.chosen[T1CE].series is fine
    assert "series 5: 1 slice missing" in second.warnings[0]
    with pytest.raises(InputError, match="T1CE: series 5: 1 slice missing"):
        choose([broken], {})


def test_what_is_open_is_asked_about_unless_another_series_settles_it() -> None:
    unclear = series(1, "T1 BRAVO POST STEALTH", **MPRAGE)
    choice = choose([unclear], {})
    assert choice.chosen == {}
    assert "--sequence t1ce=1" in choice.question
    assert choose([unclear], {T1CE: "1", T1: "none"}).chosen[T1CE].confidence is Confidence.GIVEN
    settled = choose([unclear, series(2, "t1 nativ", **SPIN_ECHO), series(3, "t1 km", **SPIN_ECHO)], {})
    assert settled.question == ""
    assert "left open and not used: series 1" in settled.decisions[0]


def test_a_series_can_be_asked_for_by_number_part_or_uid() -> None:
    echoes = [replace(series(4, "", **TSE), part=f"echo {n}") for n in (1, 2)]
    assert choose([*echoes, series(5, "", **TSE)], {T2: "4-echo2"}).chosen[T2].series is echoes[1]
    assert choose([series(5), series(6, "", **TSE)], {T1: ".5"}).chosen[T1].series.number == 5
    with pytest.raises(InputError, match="one series for two sequences"):
        choose([series(5), series(6, "", **TSE)], {T1: "5", T1CE: "5"})
    with pytest.raises(InputError, match="2 series; name one by the end of its UID"):
        choose([series(5, "", **TSE), replace(series(6, "", **TSE), number=5)], {T1: "5"})
    with pytest.raises(InputError, match="there are 5, 6"):
        choose([series(5), series(6, "", **TSE)], {T1: "9"})


def test_without_any_of_the_four_it_says_what_was_seen() -> None:
    with pytest.raises(InputError, match="series 1 angiography"):
        choose([series(1, "TOF", **MPRAGE)], {})


def test_free_text_of_the_header_is_not_repeated() -> None:
    reading = read_attributes(series(1, "Mustermann t1 mprage", **MPRAGE))
    assert "t1 mprage" in reading.words
    assert "mann" not in reading.words.lower()
