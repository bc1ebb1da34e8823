"""Tables in, tables out: what a user types is checked line by line, and responses come out in the promised columns."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from brats_seg.core.errors import InputError
from brats_seg.longitudinal.criteria import RANO2, Compartment
from brats_seg.longitudinal.history import PatientHistory
from brats_seg.longitudinal.rano import assess
from brats_seg.longitudinal.tables import (
    CLINICAL_COLUMNS,
    MEASUREMENT_COLUMNS,
    RESPONSE_COLUMNS,
    histories,
    read_csv,
    responses_csv,
    responses_json,
    rows_of,
    signed_percent,
)

HEADER = ",".join(MEASUREMENT_COLUMNS)
CLINICAL_HEADER = ",".join(CLINICAL_COLUMNS)
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
    rows = read_csv(measurements, MEASUREMENT_COLUMNS, name="m.csv")
    events = read_csv(clinical, CLINICAL_COLUMNS, name="c.csv") if clinical else []
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


def test_records_of_a_data_frame() -> None:
    frame = pytest.importorskip("pandas").read_csv(io.StringIO(GOOD))
    again = histories(rows_of(frame.to_dict("records"), MEASUREMENT_COLUMNS, name="frame"))
    assert again == parse(GOOD)


BAD = [
    ("A,v1,01.02.2024,L1,enhancing,1,1,", r"m.csv, line 2: date '01.02.2024' is not a date of the form 2024-01-31"),
    ("A,v1,20240201,L1,enhancing,1,1,", r"line 2: date '20240201'"),
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
        (GOOD.replace(",", ";"), r"lacks the columns patient, visit.*Save it with commas"),
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
