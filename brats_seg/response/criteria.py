"""Response criteria as data: every threshold is one row with its source, and nothing else in the project holds one.

The state machine in :mod:`brats_seg.response.assess` reads these rows and has no numbers of its own. To see what
another threshold would change, replace one row by :func:`dataclasses.replace`::

    stricter = replace(RANO2, progression_2d_percent=replace(RANO2.progression_2d_percent, value=40.0))

The title, the label and the source of the row mark changed criteria as changed.

Marks of rows: ``read`` in a source that quotes the criteria, ``unchecked`` (common knowledge, not yet held against the
paper's full text), ``program`` (the criteria leave it open, and this program decides).

Papers: Wen 2010 (RANO-HGG, doi:10.1200/JCO.2009.26.3541), van den Bent 2011 (RANO-LGG,
doi:10.1016/S1470-2045(11)70057-2), Ellingson 2017 (mRANO, doi:10.1007/s13311-016-0507-6), Wen 2023 (RANO 2.0,
doi:10.1200/JCO.23.01059).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from brats_seg.core.errors import UsageError

T = TypeVar("T")


class Mark(StrEnum):
    """How far a row was checked against its source."""

    READ = "read"
    UNCHECKED = "unchecked"
    PROGRAM = "program"


class Compartment(StrEnum):
    """What is measured: contrast enhancement (ET), or T2/FLAIR disease (WT)."""

    ENHANCING = "enhancing"
    NON_ENHANCING = "non_enhancing"


class NewLesionRule(StrEnum):
    """What a lesion that was not there at baseline means."""

    ANY_SIZE = "any size is progression"
    MEASURABLE = "progression if measurable"
    ADD_TO_SUM = "added to the sum if measurable"


class DiseaseRule(StrEnum):
    """Which disease the criteria judge where nobody says."""

    ENHANCING = "enhancing disease"
    NON_ENHANCING = "T2/FLAIR disease"
    BY_COURSE = "enhancing disease where anything enhances, else T2/FLAIR disease"


class EnhancementRule(StrEnum):
    """What growth of enhancement that was there at baseline means while T2/FLAIR disease is judged."""

    PROGRESSION = "progression where measurable"
    READER = "for a reader"


class ConfirmationReference(StrEnum):
    """What the scan that confirms a progression is compared with."""

    NADIR = "the nadir"
    PRELIMINARY = "the scan of the preliminary progression"


class ConfirmationRule(StrEnum):
    """Which progressions have to be confirmed by a later scan."""

    EARLY = "within the early window after radiotherapy"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class Row(Generic[T]):
    """One row of a criteria table.

    Attributes:
        unit: for example ``%``, ``mm``, ``days``; empty for a rule.
        source: paper, and section or table where known.
    """

    value: T
    unit: str
    source: str
    mark: Mark


@dataclass(frozen=True)
class Criteria:
    """One set of criteria. Comparisons include the threshold itself; a complete response has none: nothing is seen.

    Attributes:
        measurable_diameter_mm: both perpendicular diameters must reach it.
        measurable_volume_ml: for lesions measured by volume alone.
        disease: what is judged where nobody says.
        targets: at most so many per compartment, the largest at baseline.
        targets_multifocal: the same where so many lesions are measurable at baseline.
        partial_2d_percent: change of the sum of products against baseline.
        minor_2d_percent: the same for a minor response; None where the criteria have none.
        progression_2d_percent: change of the sum of products against nadir.
        volume_published: whether the volume rows are part of the published criteria.
        new_lesion: meaning of a lesion that was not there at baseline.
        enhancement_increase: meaning of enhancement that grows while T2/FLAIR disease is judged.
        confirm_progression: which progressions need a later scan.
        early_days: progression up to so many days after radiotherapy counts as early.
        confirm_progression_days: smallest distance of the scan that confirms or refutes progression.
        confirm_response_days: smallest distance of the scan that confirms a complete or partial response.
        baseline_from_days: first day of the usual window of the baseline scan after radiotherapy.
        physiologic_steroid_mg: daily dexamethasone dose up to which a complete response is possible.
        unconfirmed_response_is_stable: whether a response that no later scan confirmed counts as stable disease in the
            best response.
        growth_needs_steady_steroids: whether growth under a lowered dose is not evaluable rather than progression.
        clinical_decline_is_progression: whether a clear clinical decline is progression by itself.
        reader_facts: what only a reader can judge; listed as missing in every answer.
    """

    name: str
    title: str
    measurable_diameter_mm: Row[float]
    measurable_volume_ml: Row[float]
    disease: Row[DiseaseRule]
    targets: Row[int]
    targets_multifocal: Row[int]
    partial_2d_percent: Row[float]
    partial_volume_percent: Row[float]
    minor_2d_percent: Row[float | None]
    minor_volume_percent: Row[float | None]
    minor_compartments: Row[frozenset[Compartment]]
    progression_2d_percent: Row[float]
    progression_volume_percent: Row[float]
    volume_published: Row[bool]
    new_lesion: Row[NewLesionRule]
    enhancement_increase: Row[EnhancementRule]
    confirm_progression: Row[ConfirmationRule]
    confirm_progression_against: Row[ConfirmationReference]
    early_days: Row[int]
    confirm_progression_days: Row[int]
    confirm_response_days: Row[int]
    baseline_from_days: Row[int]
    baseline_to_days: Row[int]
    physiologic_steroid_mg: Row[float]
    unconfirmed_response_is_stable: Row[bool]
    growth_needs_steady_steroids: Row[bool]
    clinical_decline_is_progression: Row[bool]
    reader_facts: Row[tuple[str, ...]]

    def __post_init__(self) -> None:
        published = CRITERIA.get(self.name)
        if published is None:
            return
        for name, old in published.rows().items():
            row = getattr(self, name)
            if row.value != old.value:
                _check_value(name, row.value, old.value)
                source = f"changed; was {old.value}: {old.source}"
                object.__setattr__(self, name, dataclasses.replace(row, source=source, mark=Mark.PROGRAM))
        mark = _CHANGED if self.changed else ""
        object.__setattr__(self, "title", self.title.removesuffix(_CHANGED) + mark)

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the rows whose value is not that of the published criteria of this name."""
        published = CRITERIA.get(self.name)
        rows = {} if published is None else published.rows()
        return tuple(name for name, row in rows.items() if getattr(self, name).value != row.value)

    @property
    def label(self) -> str:
        """The name for tables; changed criteria are not cited as the published ones."""
        return self.name + (_CHANGED if self.changed else "")

    def rows(self) -> dict[str, Row[Any]]:
        """Every row by name, in the order of the table."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in values if isinstance(value, Row)}

    def table(self) -> list[dict[str, str]]:
        """The whole table as text, for reports and JSON: ``row, value, unit, source, mark``."""
        return [
            {"row": name, "value": _text(row.value), "unit": row.unit, "source": row.source, "mark": str(row.mark)}
            for name, row in self.rows().items()
        ]


_CHANGED = " (changed)"


def _check_value(row: str, value: object, old: object) -> None:
    """Refuse a value that the row cannot hold.

    Raises:
        UsageError: naming the row.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if row in _OPTIONAL_PERCENT:
        fits = value is None or (number and isinstance(value, int | float) and value < 0)
    elif isinstance(old, bool):
        fits = isinstance(value, bool)
    elif isinstance(old, int | float):
        whole = isinstance(value, int) or not isinstance(old, int)
        fits = number and whole and isinstance(value, int | float) and value * old > 0
    else:
        fits = isinstance(value, type(old))
    if not fits:
        kind = f"a value like {_text(old)!r}" + (" of the same sign" if number else "")
        raise UsageError(f"row {row} cannot be {value!r}; it takes {kind}")


_OPTIONAL_PERCENT = ("minor_2d_percent", "minor_volume_percent")


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, (tuple, frozenset)):
        return ", ".join(sorted(str(item) for item in value)) or "none"
    return str(value)


WEN_2010 = "Wen et al., J Clin Oncol 2010;28:1963"
BENT_2011 = "van den Bent et al., Lancet Oncol 2011;12:583"
ELLINGSON_2017 = "Ellingson et al., Neurotherapeutics 2017;14:307"
WEN_2023 = "Wen et al., J Clin Oncol 2023;41:5187"
SPHERE = "sphere equivalent of the 2D row, rounded; not in the published criteria"

CRITERIA: dict[str, Criteria] = {}
"""Every known set by the name typed on the command line."""

_BOTH = frozenset(Compartment)
_R, _U, _P = Mark.READ, Mark.UNCHECKED, Mark.PROGRAM

RANO2 = Criteria(
    name="rano2",
    title="RANO 2.0 (2023)",
    measurable_diameter_mm=Row(10.0, "mm", f"{WEN_2023}: enhancing or not, at least 10 x 10 mm", _R),
    measurable_volume_ml=Row(0.52, "ml", "a sphere of 10 mm, as in volumetric summaries of RANO 2.0", _U),
    disease=Row(DiseaseRule.BY_COURSE, "", f"{WEN_2023}: enhancing, non-enhancing and mixed tumours", _P),
    targets=Row(2, "lesions", f"{WEN_2023}: 2 per compartment", _R),
    targets_multifocal=Row(3, "lesions", f"{WEN_2023}: 3 where multifocal; here: 3 measurable lesions", _U),
    partial_2d_percent=Row(-50.0, "%", f"{WEN_2023}: at least 50 % decrease of the sum of products", _R),
    partial_volume_percent=Row(-65.0, "%", f"{WEN_2023}: at least 65 % decrease of the volume", _R),
    minor_2d_percent=Row(-25.0, "%", f"{WEN_2023}: 25 to 50 %, non-enhancing disease", _U),
    minor_volume_percent=Row(-40.0, "%", f"{WEN_2023}: 40 to 65 % (a sphere gives 35 %)", _U),
    minor_compartments=Row(frozenset({Compartment.NON_ENHANCING}), "", f"{WEN_2023}: non-enhancing only", _U),
    progression_2d_percent=Row(25.0, "%", f"{WEN_2023}: at least 25 % increase against nadir", _R),
    progression_volume_percent=Row(40.0, "%", f"{WEN_2023}: at least 40 % increase against nadir", _R),
    volume_published=Row(True, "", f"{WEN_2023}: volume is an option", _R),
    new_lesion=Row(NewLesionRule.MEASURABLE, "", f"{WEN_2023}: a new measurable lesion", _R),
    enhancement_increase=Row(EnhancementRule.READER, "", f"{WEN_2023}: names new enhancing lesions only", _U),
    confirm_progression=Row(ConfirmationRule.EARLY, "", f"{WEN_2023}: mandatory early, then optional", _U),
    confirm_progression_against=Row(ConfirmationReference.NADIR, "", f"{WEN_2023}: still meets progression", _U),
    early_days=Row(84, "days", f"{WEN_2023}: within 12 weeks of the end of radiotherapy", _U),
    confirm_progression_days=Row(28, "days", f"{WEN_2023}: a scan at least 4 weeks later", _U),
    confirm_response_days=Row(28, "days", f"{WEN_2023}: 4 weeks (some non-enhancing protocols 8)", _U),
    baseline_from_days=Row(21, "days", f"{WEN_2023}: first MRI about 4 weeks after radiotherapy", _U),
    baseline_to_days=Row(35, "days", f"{WEN_2023}: first MRI about 4 weeks after radiotherapy", _U),
    physiologic_steroid_mg=Row(1.0, "mg/day", "hydrocortisone 20 to 30 mg is 0.75 to 1.1 mg dexamethasone", _P),
    unconfirmed_response_is_stable=Row(True, "", f"{WEN_2010}: without a confirming scan only stable disease", _U),
    growth_needs_steady_steroids=Row(
        False, "", f"{WEN_2010}: on stable or increasing doses; here said, not judged", _U
    ),
    clinical_decline_is_progression=Row(True, "", f"{WEN_2023}: clear clinical deterioration", _R),
    reader_facts=Row((), "", WEN_2023, _P),
)
"""RANO 2.0. Everything else below is this table with other rows."""

RANO_HGG = dataclasses.replace(
    RANO2,
    name="rano-hgg",
    title="RANO-HGG (2010)",
    measurable_diameter_mm=Row(10.0, "mm", f"{WEN_2010}: both diameters, on two or more slices", _R),
    disease=Row(DiseaseRule.ENHANCING, "", f"{WEN_2010}: contrast enhancement; T2/FLAIR by eye", _R),
    targets=Row(5, "lesions", f"{WEN_2010}: the largest, up to 5", _R),
    targets_multifocal=Row(5, "lesions", f"{WEN_2010}: the largest, up to 5", _R),
    partial_2d_percent=Row(-50.0, "%", f"{WEN_2010}: at least 50 % decrease of the sum of products", _R),
    partial_volume_percent=Row(-65.0, "%", SPHERE, _P),
    minor_2d_percent=Row(None, "%", f"{WEN_2010}: no minor response", _R),
    minor_volume_percent=Row(None, "%", f"{WEN_2010}: no minor response", _R),
    minor_compartments=Row(frozenset(), "", f"{WEN_2010}: no minor response", _R),
    progression_2d_percent=Row(25.0, "%", f"{WEN_2010}: at least 25 % increase against the smallest", _R),
    progression_volume_percent=Row(40.0, "%", SPHERE, _P),
    volume_published=Row(False, "", f"{WEN_2010}: no volume thresholds", _R),
    new_lesion=Row(NewLesionRule.ANY_SIZE, "", f"{WEN_2010}: any new lesion", _R),
    confirm_progression=Row(ConfirmationRule.EARLY, "", f"{WEN_2010}: early progression is uncertain", _U),
    early_days=Row(84, "days", f"{WEN_2010}: 12 weeks after radiotherapy", _U),
    confirm_progression_days=Row(28, "days", "taken from RANO 2.0; 2010 asks for site or histology instead", _P),
    confirm_response_days=Row(28, "days", f"{WEN_2010}: sustained for at least 4 weeks", _R),
    baseline_from_days=Row(21, "days", "taken from RANO 2.0", _P),
    baseline_to_days=Row(35, "days", "taken from RANO 2.0", _P),
    clinical_decline_is_progression=Row(True, "", f"{WEN_2010}: clear clinical deterioration", _R),
    reader_facts=Row(("reading of T2/FLAIR (significant increase?)",), "", f"{WEN_2010}: judged by eye", _R),
)
"""RANO for high-grade glioma, 2010."""

RANO_LGG = dataclasses.replace(
    RANO2,
    name="rano-lgg",
    title="RANO-LGG (2011)",
    measurable_diameter_mm=Row(10.0, "mm", f"{BENT_2011}: both diameters, on two or more slices", _R),
    disease=Row(DiseaseRule.NON_ENHANCING, "", f"{BENT_2011}: T2/FLAIR is the main measure", _R),
    targets=Row(5, "lesions", f"{BENT_2011}: up to 5", _U),
    targets_multifocal=Row(5, "lesions", f"{BENT_2011}: up to 5", _U),
    partial_2d_percent=Row(-50.0, "%", f"{BENT_2011}: at least 50 % decrease", _R),
    partial_volume_percent=Row(-65.0, "%", SPHERE, _P),
    minor_2d_percent=Row(-25.0, "%", f"{BENT_2011}: 25 to 50 % decrease", _R),
    minor_volume_percent=Row(-35.0, "%", SPHERE, _P),
    minor_compartments=Row(_BOTH, "", f"{BENT_2011}: the disease that is measured", _U),
    progression_2d_percent=Row(25.0, "%", f"{BENT_2011}: at least 25 % increase", _R),
    progression_volume_percent=Row(40.0, "%", SPHERE, _P),
    volume_published=Row(False, "", f"{BENT_2011}: no volume thresholds", _R),
    new_lesion=Row(NewLesionRule.ANY_SIZE, "", f"{BENT_2011}: any new lesion, any new enhancement", _R),
    enhancement_increase=Row(
        EnhancementRule.PROGRESSION, "", f"{BENT_2011}: all but progression require no new or increased enhancement", _U
    ),
    confirm_progression=Row(ConfirmationRule.EARLY, "", f"{BENT_2011}: not attributable to radiation effect", _U),
    early_days=Row(84, "days", "taken from RANO 2.0", _P),
    confirm_progression_days=Row(28, "days", "taken from RANO 2.0", _P),
    confirm_response_days=Row(28, "days", f"{BENT_2011}: confirmed at 4 weeks", _R),
    baseline_from_days=Row(21, "days", "taken from RANO 2.0", _P),
    baseline_to_days=Row(35, "days", "taken from RANO 2.0", _P),
    clinical_decline_is_progression=Row(True, "", f"{BENT_2011}: definite clinical deterioration", _U),
)
"""RANO for low-grade glioma, 2011."""

MRANO = dataclasses.replace(
    RANO2,
    name="mrano",
    title="mRANO (2017)",
    measurable_diameter_mm=Row(10.0, "mm", f"{ELLINGSON_2017}: at least 10 x 10 mm", _U),
    measurable_volume_ml=Row(0.52, "ml", "a sphere of 10 mm", _U),
    disease=Row(DiseaseRule.ENHANCING, "", f"{ELLINGSON_2017}: contrast enhancement; T2/FLAIR was removed", _R),
    targets=Row(5, "lesions", f"{ELLINGSON_2017}: up to 3 to 5", _U),
    targets_multifocal=Row(5, "lesions", f"{ELLINGSON_2017}: up to 3 to 5", _U),
    partial_2d_percent=Row(-50.0, "%", f"{ELLINGSON_2017}: at least 50 % decrease of the sum of products", _U),
    partial_volume_percent=Row(-65.0, "%", f"{ELLINGSON_2017}: at least 65 % decrease of the volume", _U),
    minor_2d_percent=Row(None, "%", f"{ELLINGSON_2017}: no minor response", _U),
    minor_volume_percent=Row(None, "%", f"{ELLINGSON_2017}: no minor response", _U),
    minor_compartments=Row(frozenset(), "", f"{ELLINGSON_2017}: no minor response", _U),
    progression_2d_percent=Row(25.0, "%", f"{ELLINGSON_2017}: at least 25 % increase of the sum", _U),
    progression_volume_percent=Row(40.0, "%", f"{ELLINGSON_2017}: at least 40 % increase of the volume", _U),
    volume_published=Row(True, "", f"{ELLINGSON_2017}: volume preferred where available", _U),
    new_lesion=Row(NewLesionRule.ADD_TO_SUM, "", f"{ELLINGSON_2017}: new measurable disease joins the sum", _U),
    confirm_progression=Row(ConfirmationRule.ALWAYS, "", f"{ELLINGSON_2017}: preliminary, then confirmed", _U),
    confirm_progression_against=Row(
        ConfirmationReference.NADIR, "", f"{ELLINGSON_2017}: nadir, or perhaps the preliminary scan", _U
    ),
    early_days=Row(84, "days", f"{ELLINGSON_2017}: 12 weeks after radiotherapy", _U),
    confirm_progression_days=Row(28, "days", f"{ELLINGSON_2017}: at least 4 weeks later", _U),
    confirm_response_days=Row(28, "days", f"{ELLINGSON_2017}: durable response, at least 4 weeks", _R),
    baseline_from_days=Row(21, "days", f"{ELLINGSON_2017}: post-radiotherapy scan", _U),
    baseline_to_days=Row(35, "days", f"{ELLINGSON_2017}: post-radiotherapy scan", _U),
    clinical_decline_is_progression=Row(True, "", f"{ELLINGSON_2017}: clear clinical deterioration", _U),
)
"""Modified RANO for glioblastoma trials, 2017."""

CRITERIA.update({criteria.name: criteria for criteria in (RANO2, RANO_HGG, RANO_LGG, MRANO)})


DEFAULT_CRITERIA = RANO2.name
"""Where neither a user nor a model says which: the latest."""


def criteria_named(name: str) -> Criteria:
    """The criteria of that name.

    Raises:
        UsageError: naming those that exist.
    """
    try:
        return CRITERIA[name]
    except KeyError:
        raise UsageError(f"there are no criteria {name!r}; choose one of: {', '.join(CRITERIA)}") from None
