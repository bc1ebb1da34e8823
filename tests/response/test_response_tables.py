"""Tables in, tables out: what a user types is checked line by line, and responses come out in the promised columns."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from courses import on
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.core.errors import InputError
from brats_seg.core.tables import DAY_ZERO, Calendar
from brats_seg.files.text_table import read_table
from brats_seg.response.assess import assess
from brats_seg.response.criteria import CRITERIA, RANO2, Compartment
from brats_seg.response.history import LesionMeasurement, PatientHistory, VisitMeasurements
from brats_seg.response.responses import RESPONSE_COLUMNS, Measure, responses_csv, responses_json, signed_percent
from brats_seg.response.tables import (
    CLINICAL_TABLE,
    MEASUREMENT_TABLE,
    doubts,
    histories,
    measurement_records,
)

HEADER = MEASUREMENT_TABLE.expected
CLINICAL_HEADER = CLINICAL_TABLE.expected
GOOD = f"""{HEADER}
A,v1,2024-01-01,L1,enhancing,20,20,4.0
A,v1,2024-01-01,F1,non_enhancing,40,40,30
A,v2,2024-03-01,L1,enhancing,10,10,
B,v1,2024-02-01,,,,,
B,v2,2024-04-01,L1,enhancing,,,0.6
"""
CLINICAL = f"""{CLINICAL_HEADER}
A,2024-01-01,steroid_mg,2
A,2024-02-20,clinical_status,stable
B,2024-02-01,baseline,
"""


def parse(measurements: str, clinical: str = "") -> list[PatientHistory]:
    rows = read_table(measurements, MEASUREMENT_TABLE, name="m.csv").rows
    events = read_table(clinical, CLINICAL_TABLE, name="c.csv").rows if clinical else ()
    return histories(rows, events)


def test_tables_become_histories() -> None:
    first, second = parse(GOOD, CLINICAL)
    assert (first.patient, second.patient) == ("A", "B")
    lesion = first.visits[0].lesions[0]
    assert (lesion.lesion, lesion.product_mm2, lesion.volume_ml, lesion.line) == ("L1", 400.0, 4.0, 2)
    assert first.visits[1].lesions[0].volume_ml is None
    assert second.visits[0].lesions == ()
    assert [event.steroid_mg for event in first.events] == [2.0, None]


def test_a_row_without_a_lesion_gives_the_specks() -> None:
    (found,) = parse(f"{HEADER}\nA,v1,2024-01-01,L1,enhancing,20,20,4.0\nA,v2,2024-03-01,,enhancing,,,0.03\n")
    assert [dict(visit.specks_ml) for visit in found.visits] == [{}, {Compartment.ENHANCING: 0.03}]
    assert found.visits[1].lesions == ()


def test_a_byte_order_mark_spaces_blank_lines_and_further_columns_do_no_harm() -> None:
    text = "\ufeff" + GOOD.replace(",v1,", ", v1 ,").replace("\n", ",x\n").replace("volume_ml,x", "volume_ml,remark")
    assert (
        parse(text.replace("\nB,", "\n,,,,,,,,\nB,", 1)) == [PatientHistory(h.patient, h.visits) for h in parse(text)]
        or len(parse(text)) == 2
    )
    assert [h.patient for h in parse(text)] == ["A", "B"]


def test_a_data_frame_written_as_text() -> None:
    frame = pytest.importorskip("pandas").read_csv(io.StringIO(GOOD))
    again = histories(read_table(frame.to_csv(index=False), MEASUREMENT_TABLE, name="frame").rows)
    assert again == parse(GOOD)


BAD = [
    ("A,v1,01.02.2024,L1,enhancing,1,1,", r"m.csv, line 2: date '01.02.2024' is not a date of the form 2024-01-31"),
    ("A,v1,1024-02-01,L1,enhancing,1,1,", r"line 2: the date 1024-02-01 lies too far back"),
    ("A,v1,2204-02-01,L1,enhancing,1,1,", r"line 2: the date 2204-02-01 lies in the future"),
    ("A,v1,2024-W01-1,L1,enhancing,1,1,", r"line 2: date '2024-W01-1'"),
    ("A,v1,2024,L1,enhancing,1,1,", r"line 2: date is 2024, which could be a year or a day offset"),
    ("A,v1,45292,L1,enhancing,1,1,", r"line 2: date is 45292, as a spreadsheet counts days"),
    ("A,v1,01/02/2024,L1,enhancing,1,1,", r"line 2: date '01/02/2024'"),
    ("A,v1,2024-02-01,L1,enhancing,4_0,3,", r"line 2: long_mm is '4_0', which is not a number"),
    ("A,v1,2024-02-01,L1,enhancing,٤٠,3,", r"line 2: long_mm is .*, which is not a number"),
    ("A,v1,2024-02-01,L1,enhancing,3.0,2.0,8", r"lesion 'L1' cannot be 3 x 2 mm and 8 ml. Are these mm and ml, not cm"),
    ("A,v1,2024-02-01,L1,enhancing,30,20,9000", r"more than 3000"),
    ("A,v1,2024-02-01,L1,enhancing,0,0,4", r"lesion 'L1' cannot be 0 x 0 mm and 4 ml"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v2,2024-03-01,l1,enhancing,1,1,", r"m.csv, line 3: .*lesion 'l1' differs"),
    ("A,v1,2024-02-01,1,enhancing,1,1,\nA,v2,2024-03-01,1.0,enhancing,1,1,", r"lesion '1.0' differs from '1' only in"),
    ('A,v1,2024-02-01,1,enhancing,1,1,\nA,v2,2024-03-01,"1,0",enhancing,1,1,', r"lesion '1,0' differs from '1' only"),
    ("A,v1,2024-02-01,1,enhancing,1,1,\nA,v2,2024-03-01,01,enhancing,1,1,", r"lesion '01' differs from '1' only in"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v2,2024-03-01,L 1,enhancing,1,1,", r"lesion 'L 1' differs from 'L1' only"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,V1,2024-03-01,L1,enhancing,1,1,", r"line 3: patient A: visit 'V1' differs"),
    ("p1,v1,2024-02-01,L1,enhancing,1,1,\nP1,v2,2024-03-01,L1,enhancing,1,1,", r"line 3: patient 'P1' differs from"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v2,60,L1,enhancing,1,1,", r"has dates and day offsets mixed"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v2,,L1,enhancing,1,1,", r"line 3: the visit has no date, and other visits"),
    ("A,v1,1924-02-01,L1,enhancing,1,1,\nA,v2,2024-02-01,L1,enhancing,1,1,", r"lie more than 60 years apart"),
    ("A,v1,2024-02-30,L1,enhancing,1,1,", r"line 2: date '2024-02-30'"),
    ("A,v1,2024-02-01,L1,core,1,1,", r"line 2: compartment is 'core'; it must be one of: enhancing, non_enhancing"),
    ("A,v1,2024-02-01,L1,,1,1,", r"line 2: compartment is ''"),
    ("A,v1,2024-02-01,L1,enhancing,ten,1,", r"line 2: long_mm is 'ten', which is not a number"),
    ('A,v1,2024-02-01,L1,enhancing,"10,5",1,', r"Use a decimal point"),
    ("A,v1,2024-02-01,L1,enhancing,-3,-4,", r"m.csv, line 2: lesion 'L1': long_mm is -3"),
    ("A,v1,2024-02-01,L1,enhancing,3,4,", r"m.csv, line 2: lesion 'L1': short_mm 4 is longer"),
    ("A,v1,2024-02-01,,,3,3,", r"line 2: long_mm, short_mm without a lesion"),
    (",v1,2024-02-01,L1,enhancing,1,1,", r"line 2: patient is empty"),
    ("A,,2024-02-01,L1,enhancing,1,1,", r"line 2: visit is empty"),
    ("A,v1,2024-02-01,L1,enhancing,1,1", r"m.csv, line 2: 7 cells under 8 columns"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v1,2024-02-02,L2,enhancing,1,1,",
     r"line 3: visit v1 of A has two dates, 2024-02-01 \(line 2\) and 2024-02-02"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v1,2024-02-01,L1,enhancing,2,2,", r"m.csv, line 3: lesion 'L1'.*twice"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v1,2024-02-01,,,,,", r"line 3: visit v1 has an empty row"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v1,2024-02-01,,enhancing,,,", r"line 3: .* empty row for enhancing"),
    ("A,v1,2024-02-01,L1,enhancing,1,1,\nA,v2,2024-02-01,L1,enhancing,1,1,", r"two visits have the date 2024-02-01"),
    ("", r"m.csv has a header and no rows"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_measurements_name_the_line(rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(f"{HEADER}\n{rows}\n")


BAD_EVENTS = [
    ("A,2024-01-01,chemotherapy,", r"c.csv, line 2: event is 'chemotherapy'; it must be one of: baseline, radiother"),
    ("A,2024-01-01,steroid_mg,", r"line 2: steroid_mg needs the daily dexamethasone dose"),
    ("A,2024-01-01,steroid_mg,high", r"line 2: value is 'high', which is not a number"),
    ("A,2024-01-01,steroid_mg,-1", r"c.csv, line 2: event steroid_mg: steroid_mg is -1"),
    ("A,2024-01-01,clinical_status,bad", r"line 2: value is 'bad'; it must be one of: stable, better, worse"),
    ("A,1.1.2024,surgery,", r"line 2: date '1.1.2024'"),
    ("Z,2024-01-01,surgery,", r"line 2: the clinical table names patient 'Z', who has no measurements"),
    ("A,2024-01-02,baseline,", r"c.csv, line 2: patient A: baseline 2024-01-02 is the date of no visit"),
]


@pytest.mark.parametrize(("row", "message"), BAD_EVENTS)
def test_bad_events_name_the_line(row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(GOOD, f"{CLINICAL_HEADER}\n{row}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("visit", "wann"), r"lacks the column visit; its first line is patient,wann"),
        (GOOD.replace("long_mm,short_mm,volume_ml", "a,b,c"), r"lacks the column long_mm or volume_ml"),
        (GOOD.replace("volume_ml", "volume"), r"lacks the column volume_ml"),
        (GOOD.replace("volume_ml", "volume_ml,visit"), r"has the column visit twice"),
        ("", r"its first line is empty"),
    ],
)
def test_bad_headers(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_optional_columns() -> None:
    rows = ("A,v1,2024-01-01,L1,enhancing,0,0,,no,", "A,v1,2024-01-01,L1.1,enhancing,12,12,,no,L1")
    text = "\n".join((f"{HEADER},measurable,part_of", *rows, ""))
    lesion = parse(text)[0].visits[0].lesions[1]
    assert (lesion.measurable, lesion.part_of) == (False, "L1")
    with pytest.raises(
        InputError, match=r"m.csv, line 3: lesion 'L1.1' is part of 'L2', which is measured at no visit"
    ):
        parse(text.replace("no,L1\n", "no,L2\n"))
    with pytest.raises(InputError, match="line 2: measurable is 'maybe'"):
        parse(text.replace(",no,", ",maybe,"))


def table(text: str, clinical: str = "") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(responses_csv(assess(case, RANO2) for case in parse(text, clinical)))))


def test_responses_have_the_promised_columns_and_rows() -> None:
    rows = table(GOOD, CLINICAL)
    assert tuple(rows[0]) == RESPONSE_COLUMNS
    keys = [(row["patient"], row["visit"], row["measure"], row["compartment"]) for row in rows]
    assert len(set(keys)) == len(keys)
    for patient in ("A", "B"):
        for visit in ("v1", "v2"):
            for measure in ("2d", "volume"):
                assert (patient, visit, measure, "overall") in keys
    by_key = dict(zip(keys, rows, strict=True))
    partial = by_key["A", "v2", "2d", "enhancing"]
    assert (partial["category"], partial["status"]) == ("PR", "preliminary")
    assert (partial["percent_from_baseline"], partial["percent_from_nadir"]) == ("-75.00", "-75.00")
    assert partial["date"] == "2024-03-01"
    assert partial["missing"] == "radiotherapy_end; treatment_start"
    assert by_key["A", "v2", "2d", "overall"]["percent_from_baseline"] == ""
    assert by_key["A", "v2", "volume", "overall"]["category"] == "NE"
    assert by_key["B", "v1", "volume", "overall"]["category"] == "baseline"


def test_json_says_the_same_and_holds_the_table_in_force() -> None:
    assessments = [assess(case, RANO2) for case in parse(GOOD, CLINICAL)]
    data: dict[str, Any] = json.loads(responses_json(assessments))
    assert {row["row"] for row in data["criteria"]["rano2"]} == set(RANO2.rows())
    patient = data["patients"][0]
    (episode,) = patient["episodes"]
    assert (episode["disease"], episode["baseline"]) == ("enhancing", "2024-01-01")
    assert episode["best"]["2d"]["category"] == "PR"
    rows = [row for entry in data["patients"] for row in entry["responses"]]
    assert [row["category"] for row in rows] == [row["category"] for row in table(GOOD, CLINICAL)]
    assert any(row["percent_from_baseline"] == -75.0 for row in rows)


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (25.0, "+25.00"), (-50.0, "-50.00"), (0.0, "+0.00"), (-0.001, "+0.00")]
)
def test_percentages_are_signed(value: float | None, text: str) -> None:
    assert signed_percent(value) == text


READ = [
    GOOD.replace(",", ";"),
    GOOD.replace(",", "\t"),
    "sep=;\n" + GOOD.replace(",", ";"),
    "\ufeff" + GOOD.replace("\n", "\r\n"),
    GOOD.replace("patient,visit,date", "Patient,VISIT, Date ").replace("long_mm", "Long [mm]"),
    GOOD.replace("\n", ",,\n"),
    GOOD.replace("\n", "\r"),
    "\n\n" + GOOD.replace("\n", "\n\n"),
    GOOD.replace("20,20,4.0", "20,20,4.0,,").replace("40,40,30", "40,40,30,"),
    GOOD.replace("-01,", "-01 00:00:00,"),
    GOOD.replace("2024-03-01", "20240301"),
    GOOD.replace("non_enhancing", "Non-enhancing").replace(",enhancing", ",ET"),
    GOOD.replace("non_enhancing", "T2/FLAIR").replace(",enhancing", ",Enhancing tumour"),
    GOOD.replace("10,10,\n", "10,10,n/a\n").replace("enhancing,,,0.6", "enhancing,NA,#N/A,0.6"),
    GOOD.replace("B,v1,2024-02-01,,,,,", "B,v1,2024-02-01,NA,NA,NA,NA,NA"),
    GOOD.replace("4.0", "4,0").replace("0.6", "0,6").replace(",", ";").replace("4;0", "4,0").replace("0;6", "0,6"),
    GOOD.replace("volume_ml", "volume_ml,remark").replace("\nA,", "\nA,").replace(",4.0", ",4.0,x").replace(
        "40,40,30", "40,40,30,").replace("10,10,", "10,10,,").replace(",,,,,", ",,,,,,").replace("0.6", "0.6,"),
]  # fmt: skip


@pytest.mark.parametrize("text", READ, ids=range(len(READ)))
def test_tables_as_spreadsheets_save_them(text: str) -> None:
    plain = [[visit.lesions for visit in history.visits] for history in parse(text)]
    expected = [[visit.lesions for visit in history.visits] for history in parse(GOOD)]
    without_lines = [[[(x.lesion, x.compartment, x.long_mm, x.volume_ml) for x in visit] for visit in p] for p in plain]
    assert without_lines == [
        [[(x.lesion, x.compartment, x.long_mm, x.volume_ml) for x in visit] for visit in p] for p in expected
    ]
    assert [[visit.day for visit in history.visits] for history in parse(text)] == [
        [visit.day for visit in history.visits] for history in parse(GOOD)
    ]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("30;20;1,250", "20;20;1,500"), r"line 2: volume_ml is '1,250', which could be 1.250 or 1250"),
        (("30;20;1,250", "20;20;2,5"), ""),  # the other shows that commas are decimal
        (("30;20;1,250", "20;20;2,500\nA;v3;2024-05-01;L;enhancing;;;12,345"), ""),  # nothing holds 12,345 ml
        (("30;20;1,25", "20.5;20;2,5"), r"line 2: volume_ml is '1,25', which could be 1.25 or 125"),
        (("30;20;1.250,5", "20;20;2,5"), r"line 2: volume_ml is '1.250,5', which is not a number"),
    ],
)
def test_decimal_commas_are_read_where_they_can_mean_one_thing(cells: tuple[str, str], message: str) -> None:
    rows = [f"A;v{number};2024-0{number}-01;L1;enhancing;{cell}" for number, cell in enumerate(cells, start=1)]
    text = "\n".join((HEADER.replace(",", ";"), *rows))
    if message:
        with pytest.raises(InputError, match=message):
            parse(text)
    else:
        assert [visit.lesions[0].volume_ml for visit in parse(text)[0].visits][:2] == [1.25, 2.5]


def test_doses_may_have_decimal_commas() -> None:
    (first, _) = parse(
        GOOD, "patient;date;event;value\nA;2024-01-01;Steroid mg;1,5\nA;2024-02-01;clinical status;Worse\n"
    )
    assert first.events[0].steroid_mg == 1.5


def test_volumes_alone_are_judged_by_volume() -> None:
    header = "patient,visit,date,lesion,compartment,volume_ml"
    text = f"{header}\nA,v1,2024-01-01,L1,enhancing,10\nA,v2,2024-03-01,L1,enhancing,15\n"
    rows = assess(parse(text)[0], RANO2).overall(Measure.VOLUME)
    assert [row.category.value for row in rows] == ["baseline", "PD"]
    planar = parse(
        text.replace("volume_ml", "long_mm,short_mm").replace(",10\n", ",10,10\n").replace(",15\n", ",15,10\n")
    )
    assert [row.category.value for row in assess(planar[0], RANO2).overall(Measure.PLANAR)] == ["baseline", "PD"]


def test_doubtful_units_are_warned_of_and_good_ones_are_not() -> None:
    centimetres = f"{HEADER}\nA,v1,2024-01-01,L1,enhancing,4.0,3.0,\nA,v2,2024-03-01,L1,enhancing,6.0,5.0,\n"
    assert "Are they in cm?" in doubts(parse(centimetres))[0]
    thin = f"{HEADER}\nA,v1,2024-01-01,L1,enhancing,30,30,0.2\n"
    assert "lesion L1: 30 x 30 mm and 0.2 ml hardly go together" in doubts(parse(thin))[0]
    mixed = f"{HEADER}\nA,v1,2024-01-01,L1,enhancing,30,20,\nA,v2,2024-03-01,L1,enhancing,3.1,2.1,\n"
    assert "lesion L1: 30 x 20 mm at v1 and 3.1 x 2.1 mm at v2" in doubts(parse(mixed))[0]
    assert doubts(parse(mixed.replace("3.1,2.1", "5.1,2.1"))) == []
    assert doubts(parse(GOOD)) == []
    image = f"{HEADER},measurable\nA,v1,2024-01-01,L1,enhancing,5,4,0.9,no\n"
    assert doubts(parse(image)) == [], "what was measured on an image is in millimetres"


@pytest.mark.parametrize("column", ["date", "days"])
def test_day_offsets_stay_day_offsets(column: str) -> None:
    text = (
        GOOD.replace("2024-01-01", "0")
        .replace("2024-03-01", "60")
        .replace("2024-02-01", "-7")
        .replace("2024-04-01", "50")
    )
    events = "A,30,steroid_mg,2\nA,0,baseline,\n"
    text, clinical = text.replace("date", column, 1), f"{CLINICAL_HEADER}\n{events}".replace("date", column, 1)
    assessments = [assess(case, RANO2) for case in parse(text, clinical)]
    whole = responses_csv(assessments) + responses_json(assessments)
    assert "1899" not in whole and "1900" not in whole
    assert "against baseline 400 mm2 of day 0" in whole and "steroid_mg before day 30" in whole
    assert [row["days"] for row in csv.DictReader(io.StringIO(responses_csv(assessments)))][::6] == [
        "0",
        "60",
        "-7",
        "50",
    ]
    with pytest.raises(
        InputError, match=r"c.csv, line 2: patient A: baseline day 6 is the date of no visit \(visits: day 0"
    ):
        parse(text, f"{CLINICAL_HEADER}\nA,6,baseline,\n".replace("date", column, 1))
    with pytest.raises(InputError, match=r"c.csv, line 2: date is '2024-01-01', but the visits"):
        parse(text, f"{CLINICAL_HEADER}\nA,2024-01-01,surgery,\n")


def test_without_dates_the_order_of_the_rows_counts_and_nothing_is_confirmed() -> None:
    text = f"{HEADER}\nA,b,,L1,enhancing,20,20,\nA,a,,L1,enhancing,10,10,\nA,c,,L1,enhancing,10,10,\n"
    assessment = assess(parse(text)[0], RANO2)
    assert [(row.visit, str(row.category), str(row.status)) for row in assessment.overall(Measure.PLANAR)] == [
        ("b", "baseline", ""), ("a", "PR", "preliminary"), ("c", "PR", "preliminary"),
    ]  # fmt: skip
    assert "taken in the order b, a, c" in assessment.notes[0]
    assert all("dates of the visits" in row.missing for row in assessment.rows)
    with pytest.raises(InputError, match="has visits without dates"):
        parse(text, f"{CLINICAL_HEADER}\nA,2024-01-01,surgery,\n")


SIZES_MM = st.sampled_from([0.0, 4.0, 9.5, 12.0, 20.0, 31.5])


@st.composite
def any_histories(draw: st.DrawFn) -> PatientHistory:
    """As ``track`` makes them: lesions from their first visit on, parts, specks, what scans do not show."""
    calendar = draw(st.sampled_from(list(Calendar)))
    visits = []
    known: dict[str, Compartment] = {}
    for number in range(draw(st.integers(2, 4))):
        for name in draw(st.sets(st.sampled_from(["E1", "E2", "W1"]))):
            known.setdefault(name, Compartment.ENHANCING if name[0] == "E" else Compartment.NON_ENHANCING)
        lesions = []
        for name, compartment in known.items():
            size = draw(SIZES_MM)
            part_of = "E1" if name == "E2" and "E1" in known and draw(st.booleans()) else ""
            lesions.append(LesionMeasurement(name, compartment, size, size * 0.9, round(size**3 / 2000, 4),
                                             measurable=size * 0.9 >= 10, part_of=part_of))  # fmt: skip
        specks = {Compartment.ENHANCING: 0.0123} if draw(st.booleans()) else {}
        hidden = {Compartment.ENHANCING: "not assessable without T1CE"} if draw(st.integers(0, 4)) == 0 else {}
        day = {Calendar.DATES: on(40 * number), Calendar.DAYS: DAY_ZERO + timedelta(days=40 * number - 20),
               Calendar.ORDER: DAY_ZERO + timedelta(days=number)}[calendar]  # fmt: skip
        visits.append(VisitMeasurements(f"v{number}", day, tuple(lesions), specks_ml=specks, not_assessable=hidden))
    return PatientHistory("P", tuple(visits), calendar=calendar)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(history=any_histories(), name=st.sampled_from(sorted(CRITERIA)))
def test_a_table_that_was_written_gives_the_same_answers(history: PatientHistory, name: str) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, MEASUREMENT_TABLE.known)
    writer.writeheader()
    writer.writerows(measurement_records(history))
    (again,) = parse(stream.getvalue())
    assert again.calendar is history.calendar
    expected, found = (responses_csv([assess(case, CRITERIA[name])]) for case in (history, again))
    assert found == expected
