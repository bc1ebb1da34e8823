"""The report page: one HTML file without scripts or outside resources, read in a minute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from brats_seg.core.labels import CAVITY, Region
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import Lesion, RegionVolume, RunRecord, Visit
from brats_seg.core.words import counted, side_words
from brats_seg.report.figures import ReportPictures, report_pictures
from brats_seg.report.pages import page
from brats_seg.report.scene import doubtful_regions, drawn_names, measured_lesion, place_words
from brats_seg.report.tables import (
    NOT_KNOWN,
    SPECK_ML,
    VERY_UNCERTAIN,
    interval,
    is_uncertain,
    lesion_groups,
    meaning,
    ml,
    mm,
    percent,
    plain,
    short_hash,
    slice_words,
    unique,
    without_specks,
)

DISCLAIMER = "Research software, not a medical device: do not base decisions about a patient on this page."

_CARD_ROWS = {
    **{"Model": "name", "Version": "version", "Checksum": "sha256", "Trained on": "trained_on"},
    **{"Accuracy": "accuracy", "Limits": "limits", "Licence": "licence", "Cite": "citations"},
}
"""What the page says of a model, and the key of its card or of the run record that has it."""
_TITLES = "|".join(sequence.title for sequence in MRSequence)
_SAYS_MISSING = re.compile(rf"({_TITLES})((, | and )({_TITLES}))* (is |are )?missing\b")
"""Notes of earlier steps that a sequence is missing; the page has its own sentence for each."""


class Verdict(NamedTuple):
    """The first thing on the page: whether there is tumour, that in a sentence, and what else to know at once."""

    is_found: bool
    headline: str
    details: tuple[str, ...]


def render_report(result: Visit, *, model_card: Mapping[str, Any], pictures: ReportPictures | None = None) -> str:
    """The whole page for one study that a model segmented.

    Args:
        result: the study's result; images, if any, on the grid of the label map.
        model_card: card of the model that made the label map.
        pictures: of :func:`~brats_seg.report.figures.report_pictures`, where they were drawn before.

    Returns:
        A complete HTML document; nothing in it is loaded from elsewhere, and all text is escaped.

    Raises:
        ValueError: if an image lies on another grid than the label map.
    """
    segmentation, measurements, regions = result.segmentation, result.measurements, result.segmentation.regions
    levels = sorted({row.level for row in measurements.volumes if row.level is not None})
    return page(
        "report.html.j2",
        study_id=segmentation.study_id,
        disclaimer=DISCLAIMER,
        made=_made_of(result),
        made_with=_made_with(result),
        verdict=verdict_of(result),
        warnings=warnings_of(result),
        measurements=measurements,
        regions=regions,
        meaning=partial(meaning, regions=regions, schema=segmentation.schema),
        counted=(*regions.names, CAVITY.name),
        level=" or ".join(map(percent, levels)),
        lesion_groups=lesion_groups(measurements, regions),
        slice_words=partial(slice_words, shape=segmentation.labels.grid.shape),
        pictures=pictures or report_pictures(result),
        measured=measured_lesion(result),
        drawn=drawn_names(regions, segmentation.schema) if segmentation.labels.data.any() else (),
        doubtful=doubtful_regions(result),
        decisions=unique(result.record.decisions),
        model_rows=model_rows(result.record, model_card),
        record=result.record,
        schema=segmentation.schema,
    )


def _made_of(result: Visit) -> str:
    """When the scans and the page were made, and by what: ``scan of 2024-01-31; page of 2024-02-01 by brats_seg …``."""
    record = result.record
    scan = f"Scan of {record.scan_date}" if record.scan_date else "Date of the scan not known"
    made = record.made.replace("T", " ")[:16]
    return f"{scan}; page made{f' on {made}' if made else ''} by {_made_with(result)}."


def _made_with(result: Visit) -> str:
    """``brats_seg 0.2.0 with model glioma 1.0.0``."""
    return f"brats_seg {result.record.versions.get('brats_seg', NOT_KNOWN)} with model {result.model}"


def verdict_of(result: Visit) -> Verdict:
    """What was found, in one sentence and a few more; first, where that is so, that the scans are in doubt."""
    found, record = _found(result), result.record
    if not record.fits:
        headline = "The scans do not fit together: check them before any number is used."
    elif not record.preparation.get("consistency", {}).get("is_usual_size", True):
        headline = "The size of the brain is unusual: is it whole, and are the voxel sizes right?"
    else:
        return found
    return Verdict(found.is_found, headline, (found.headline, *found.details))


def _found(result: Visit) -> Verdict:
    measurements, regions = result.measurements, result.segmentation.regions
    rows = {row.region: row for row in measurements.volumes}
    cavity = rows.get(CAVITY.name)
    extra = [f"Resection cavity {ml(cavity.volume_ml)} ml."] if cavity and cavity.volume_ml > 0 else []
    outer = (rows[region.name] for region in regions.outermost if region.name in rows)
    whole = [row for row in outer if row.volume_ml > 0]
    if not whole:
        return Verdict(False, "No tumour found.", tuple(extra))
    details = [_part_sentence(rows[r.name], result) for r in regions if r.inside and r.name in rows]
    details += [_count_sentence(row, measurements.lesions_of(row.region)) for row in whole]
    if lesion := measured_lesion(result):
        details.append(_lesion_sentence(lesion, regions[lesion.region]))
    details.append("This visit alone: nothing earlier was compared (brats-seg track compares visits).")
    place = place_words(result)
    where = f"Tumour found, {place}" if place else "Tumour found"
    found = ", ".join(f"{regions.title(row.region)} {_volume_text(row)}" for row in whole)
    return Verdict(True, f"{where}: {found}.", (*details, *extra))


def _lesion_sentence(lesion: Lesion, region: Region) -> str:
    """``Largest enhancing lesion 26 × 21 mm, left, measurable by RANO.``"""
    kind = "enhancing lesion" if region.compartment == "enhancing" and region.inside else f"lesion ({region.title})"
    side = f", {side_words(lesion.side)}" if lesion.side else ""
    state = "measurable" if lesion.measurable else "not measurable"
    found = lesion.diameters
    return f"Largest {kind} {mm(found.long_mm)} × {mm(found.short_mm)} mm{side}, {state} by RANO."


def _count_sentence(whole: RegionVolume, lesions: Sequence[Lesion]) -> str:
    """``2 lesions, and 9 specks of at most 0.05 ml.``"""
    specks = len(lesions) - len(without_specks(lesions))
    count = whole.lesions - specks
    words = [f"{counted(count, 'lesion')}"] if count else []
    if specks:
        words.append(f"{counted(specks, 'speck')} of at most {SPECK_ML:g} ml")
    return f"{', and '.join(words)}."


def _part_sentence(row: RegionVolume, result: Visit) -> str:
    segmentation = result.segmentation
    region = segmentation.regions[row.region]
    name, lacking = region.title.capitalize(), region.lacks(segmentation.missing)
    doubt = f", an estimate without {lacking}" if lacking else ""
    if row.volume_ml == 0:
        return f"{name}: {'none' + doubt if doubt or not row.note else row.note}."
    return f"{name} {_volume_text(row)}{doubt}."


def _volume_text(row: RegionVolume) -> str:
    """``56.5 ml (90 % interval 50 to 63 ml)``."""
    if row.low_ml is None or row.high_ml is None or row.level is None:
        return f"{ml(row.volume_ml)} ml"
    doubt = f", {VERY_UNCERTAIN}" if is_uncertain(row) else ""
    return f"{ml(row.volume_ml)} ml ({percent(row.level)} interval {interval(row)} ml{doubt})"


def warnings_of(result: Visit) -> tuple[str, ...]:
    """Everything to know before trusting the numbers: missing sequences first, each said once."""
    own = [_loss_of(sequence, result) for sequence in result.segmentation.missing]
    noted = (*result.record.warnings, *result.measurements.notes)
    return unique((*own, *(line for line in noted if not (own and _SAYS_MISSING.match(line)))))


def _loss_of(sequence: MRSequence, result: Visit) -> str:
    """What is lost with a sequence that is missing, in a sentence."""
    regions, missing = result.segmentation.regions, result.segmentation.missing
    shown = [region for region in reversed(regions.regions) if sequence in region.shown_by]
    lost = [region for region in shown if region.lacks(missing)]
    if lost:
        names = " and ".join(region.title for region in lost)
        are = "are estimates" if len(lost) > 1 else "is an estimate"
        return f"{sequence.title} is missing: {names} {are}, not assessable without {lost[0].lacks(missing)}."
    best = [region.title for region in shown if region.shown_by[0] is sequence]
    if best:
        return f"{sequence.title} is missing: the extent of the {' and the '.join(best)} is less certain."
    return f"{sequence.title} is missing: the result rests on the other sequences."


def model_rows(record: RunRecord, card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the model, as rows of title and words."""
    known = {**record.model, **card}
    known["sha256"] = short_hash(known.get("sha256", ""))
    return [(heading, plain(known.get(key))) for heading, key in _CARD_ROWS.items()]
