"""Response from tables of measurements that were made anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.tables import Calendar
from brats_seg.files.text_table import Table, read_table, read_table_file, read_table_text
from brats_seg.files.visit_names import in_order
from brats_seg.response.assess import assess
from brats_seg.response.criteria import DEFAULT_CRITERIA, criteria_named
from brats_seg.response.history import PatientHistory
from brats_seg.response.responses import Disease, Responses
from brats_seg.response.tables import CLINICAL_TABLE, MEASUREMENT_TABLE, doubts, histories


def respond(
    measurements: Path | str,
    clinical: Path | str | None = None,
    *,
    criteria: str = DEFAULT_CRITERIA,
    disease: str | None = None,
) -> tuple[Responses, ...]:
    """Response of every visit of every patient of a table.

    Args:
        measurements: lesions measured at each visit (:mod:`brats_seg.response.tables` has the columns).
        clinical: clinical events; None where there are none.
        criteria: name of the response criteria.
        disease: ``enhancing``, ``non_enhancing`` or ``mixed``; None lets the criteria choose for each episode.

    Raises:
        InputError: naming the line of whatever does not make sense.
        UsageError: if there are no such criteria.
    """
    judged, _, _ = judge_tables(
        Path(measurements), None if clinical is None else Path(clinical), criteria=criteria, disease=disease
    )
    return judged


def judge_tables(
    measurements: Path, clinical: Path | None, *, criteria: str, disease: str | None
) -> tuple[tuple[Responses, ...], list[str], list[Table]]:
    """What :func:`respond` returns; what to know of the tables before it is used, in words; and the tables."""
    text = read_table_text(measurements)
    _refuse_study_table(text, measurements.name)
    tables = [read_table(text, MEASUREMENT_TABLE, name=measurements.name)]
    if clinical is not None:
        tables.append(read_table_file(clinical, CLINICAL_TABLE))
    found = histories(tables[0].rows, tables[1].rows if clinical is not None else ())
    for history in found:
        if history.calendar is Calendar.ORDER and (names := _other_order(history)):
            rows = ", ".join(visit.visit for visit in history.visits)
            raise InputError(
                f"{measurements.name}: patient {history.patient}: without dates the rows are in the order {rows}, and "
                f"the names of the visits say {names}. Give dates, or order the rows."
            )
    chosen, by = None if disease is None else Disease(disease), criteria_named(criteria)
    warnings = [*doubts(found), *_order_doubts(found)]
    return tuple(assess(history, by, disease=chosen) for history in found), warnings, tables


def _order_doubts(measured: Sequence[PatientHistory]) -> list[str]:
    """Patients whose visits are in another order by their dates than by their names, in words."""
    return [
        f"patient {history.patient}: by their dates the visits were {', '.join(v.visit for v in history.visits)}, by "
        f"their names {names}. The dates count; check them."
        for history in measured
        if history.calendar is not Calendar.ORDER and (names := _other_order(history))
    ]


def _other_order(history: PatientHistory) -> str:
    """The order that the names of the visits tell, where it is another than the one they are in; else nothing."""
    visits = [visit.visit for visit in history.visits]
    named = in_order(visits)
    return ", ".join(named) if named is not None and named != visits else ""


def _refuse_study_table(text: str, name: str) -> None:
    """Refuse the lesions of single studies, which ``segment`` and ``measure`` number anew, with what is missing."""
    header = {
        column.strip().lower() for column in re.split("[,;\t]", (text.removeprefix("\ufeff").splitlines() or [""])[0])
    }
    if {"study", "region", "lesion"} <= header and "visit" not in header:
        raise InputError(
            f"{name} lists the lesions of single studies, numbered anew in each. Give lesions that keep their names "
            "over the visits: the measurements.csv of brats-seg track, or this table with the columns patient, visit, "
            "date and compartment, and one name per lesion."
        )
