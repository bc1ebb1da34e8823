"""The clinical table of a whole cohort: whose rows are here, and the events of one patient."""

from __future__ import annotations

import re
from collections.abc import Sequence

from brats_seg.core.study import Patient
from brats_seg.core.tables import TableRow, dated
from brats_seg.response.history import ClinicalEvent
from brats_seg.response.tables import histories


def split_rows(clinical: Sequence[TableRow], patients: Sequence[str]) -> tuple[list[TableRow], list[TableRow]]:
    """Rows of these patients, and rows of others, as a table of a whole cohort has them.

    Raises:
        InputError: if no row is of these patients, or a name is one of theirs but for its spelling.
    """
    keys = {_spelt(patient): patient for patient in patients}
    own = [row for row in clinical if row.cells["patient"] in patients]
    others = [row for row in clinical if row.cells["patient"] not in patients]
    for row in others:
        name = row.cells["patient"]
        alike = keys.get(_spelt(name))
        if alike is not None:
            raise row.fail(f"patient {name!r} is called {alike!r} among the scans. Spell both alike.")
        if not own:
            raise row.fail(
                f"the clinical table names patient {name!r} and none of those who are here "
                f"({', '.join(patients[:4])}). Correct the names."
            )
    return own, others


def _spelt(name: str) -> str:
    """A name without what is mistyped most: case, separators, and zeros before numbers."""
    return re.sub(r"\d+", lambda number: str(int(number.group())), re.sub(r"[\W_]+", "", name.lower()))


def events_of(patient: Patient, clinical: Sequence[TableRow]) -> tuple[ClinicalEvent, ...]:
    """Events of one patient, checked against the dates of its visits; none where the table has no row of it.

    Args:
        clinical: rows of any patients; where its visits have day offsets, ``date`` is such an offset too.

    Raises:
        InputError: naming the line of a row that fits no visit.
    """
    own = [row for row in clinical if row.cells["patient"] == patient.id]
    if not own:
        return ()
    visits = [
        TableRow("visits", line, {"patient": patient.id, "visit": visit.label, **dated(visit.day, patient.dating)})
        for line, visit in enumerate(patient.visits, start=2)
    ]
    (history,) = histories(visits, own)
    return history.events
