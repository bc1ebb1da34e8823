"""Segmenting one study, from its files to a folder of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import brats_seg
from brats_seg.core.errors import InputError, ModelError, explained, out_of_memory
from brats_seg.core.grid import Volume
from brats_seg.core.scans import PreparedStudy, Study
from brats_seg.core.study import REFERENCE_PREFERENCE, SEQUENCES, MRSequence, Timepoint
from brats_seg.core.visit import Measurements, RunRecord, Segmentation, Visit
from brats_seg.core.words import Tick
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.find import find_study
from brats_seg.files.header import SpatialForms
from brats_seg.files.load import load_study, scan_date, scan_forms
from brats_seg.files.output import OutputFolder, file_hashes, finished, read_run, result_folder, write_text
from brats_seg.files.sidecar import write_dseg_sidecars
from brats_seg.files.tables import write_run, write_tables
from brats_seg.files.visit_folder import write_visit
from brats_seg.files.write import write_label_map, write_probabilities
from brats_seg.imaging.brain import with_skull
from brats_seg.imaging.likeness import fingerprints, same_head
from brats_seg.imaging.midplane import find_midplane
from brats_seg.imaging.register import resample
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import ModelBundle, ModelCard, find_model
from brats_seg.models.record import code_fingerprint, model_summary, peak_memory_mib, versions
from brats_seg.run.identify import settled
from brats_seg.run.options import SegmentOptions, check_report
from brats_seg.run.prepare import inputs_of, series_chosen, strip_study
from brats_seg.segment.memory import require_memory
from brats_seg.segment.postprocess import segment
from brats_seg.segment.predict import Predictor
from brats_seg.segment.prepare import images_on_reference, prepare, prepare_stripped
from brats_seg.segment.strip import StrippedStudy
from brats_seg.volumetrics.intervals import IntervalModel
from brats_seg.volumetrics.measure import measure_segmentation

Aligned = Callable[[], Mapping[MRSequence, Volume]]
"""Makes the scans on the grid of the label map, as pictures need them."""
TOKEN = "run"
"""Among the settings in ``run.json``, what tells one run from another and decides nothing."""
_FOR_ANY_SCAN = "seg.nrrd"
"""The one further format that needs no DICOM."""
_PREPARED_BYTES = 5.0
"""What preparation adds at least for each voxel that was read, and the networks find in use: one channel of float32 and
a share of the brain mask."""


@dataclass
class _Run:
    """What is gathered while a study runs."""

    timings_s: dict[str, float] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tick: Tick | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if self.tick is not None:
            self.tick(name)
        began = time.perf_counter()
        yield
        self.timings_s[name] = time.perf_counter() - began


def open_predictor(options: SegmentOptions) -> Predictor:
    """The model of the options on its engine, to be shared by several calls of :func:`segment_study`.

    Raises:
        ModelError: if the model is missing or damaged.
        DeviceError: if the device is not there.
    """
    return Predictor(
        find_model(options.model),
        engine=options.engine,
        device=options.device,
        mirror=options.mirror,
        cache=options.cache,
    )


def segment_study(
    study: Study | Timepoint | str | Path,
    output: str | Path | None = None,
    *,
    options: SegmentOptions | None = None,
    predictor: Predictor | None = None,
    tick: Tick | None = None,
) -> Visit:
    """Tumour regions, volumes and a report of one study.

    Args:
        study: a folder with the sequences, files that were discovered, or a study in memory.
        output: folder that gets a folder ``<id>`` with all results; None writes nothing.
        options: see :class:`SegmentOptions`.
        predictor: a model opened before with :func:`open_predictor`, to save opening it again.
        tick: called with the name of each step (:data:`STEPS`) before it runs.

    Returns:
        Label map and probabilities on the reference file's grid, measurements, and the run's record; with an output
        folder, :meth:`Visit.load <brats_seg.core.visit.Visit.load>` gives the same.

    Raises:
        BratsSegError: the family of :mod:`brats_seg.core.errors`; nothing is left half-written.

    Example:
        Several studies with one model, nothing written::

            from brats_seg import SegmentOptions, open_model, segment_study

            options = SegmentOptions(device="cpu")
            predictor = open_model(options)
            for folder in ("patients/a", "patients/b"):
                result = segment_study(folder, options=options, predictor=predictor)
                print(result.segmentation.study_id, result.measurements.volume("ET").volume_ml)
    """
    options = options or SegmentOptions()
    run = _Run(tick=tick)
    files = settled(find_study(Path(study))) if isinstance(study, str | Path) else study
    if output is None:
        with _memory_explained():
            return _compute(files, options, predictor, run)[0]
    final = result_folder(Path(output), files)
    _check_exports(files, options)
    with OutputFolder(final, exists=options.exists) as folder, _memory_explained():
        result = _write(files, folder.path, options, predictor, run)
        final = folder.final
    return replace(result, folder=final)


def _check_exports(files: Study | Timepoint, options: SegmentOptions) -> None:
    """See whether what is asked for can be written, before anything is computed."""
    check_report(options)
    asked = ["--dicom"] * bool(options.dicom)
    asked += [f"--also {name}" for name in options.also if name != _FOR_ANY_SCAN]
    if asked and not isinstance(files, DicomTimepoint):
        raise InputError(
            f"{asked[0]} writes for a DICOM series, and the scans of {files.id} are NIfTI. Pass the DICOM exam, or "
            f"leave {asked[0]} away."
        )


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise explained(error) from error
        raise


def _compute(
    files: Study | Timepoint, options: SegmentOptions, predictor: Predictor | None, run: _Run
) -> tuple[Visit, ModelBundle, Aligned]:
    require_memory(0)
    card = (predictor.bundle if predictor is not None else find_model(options.model)).card
    schema, config = card.schema(options.labels), prepare_config(card.prepare)
    with run.step("read"):
        files = card.looked_at(files)
        study = _read(files, options)
    require_memory(_PREPARED_BYTES * sum(image.data.size for image in study.images.values()))
    predictor = predictor or open_predictor(options)
    with run.step("extract"):
        heads = with_skull(study)
        stripped = _stripped(study, heads, options)
    with run.step("prepare"):
        if stripped is None:
            prepared = prepare(study, config=config, sequences=card.sequences, force=options.force, heads=heads)
        else:
            prepared = prepare_stripped(stripped, config=config, sequences=card.sequences)
    prediction = predictor.predict(prepared, tick=run.tick)
    run.timings_s.update(prediction.timings_s)
    with run.step("restore"):
        found = segment(prediction.probabilities, prepared, schema, card.postprocess)
        segmentation = replace(found.segmentation, midplane=find_midplane(prepared.brain, prepared.grid))
        brain = None if stripped is None else _on_native(stripped)
    with run.step("measure"):
        when = scan_date(files) if isinstance(files, Timepoint) else ""
        measurements = replace(_measured(segmentation, prepared, card, options), scan_date=when)
    run.decisions += [*series_chosen(files), *_opening(study, options, predictor), *prepared.record.decisions]
    run.decisions += [*prediction.decisions, *found.decisions]
    run.warnings += [*prepared.record.warnings, *found.warnings, *measurements.warnings]
    visit = Visit(
        timepoint=files if isinstance(files, Timepoint) else Timepoint(study.id, {}),
        segmentation=segmentation,
        measurements=measurements,
        record=replace(_record(study, prepared, predictor, run), settings=options.to_dict(), scan_date=when),
        images=study.images,
        motions=prepared.record.registrations,
        brain=brain,
        how="segmented",
    )
    return visit, predictor.bundle, partial(images_on_reference, study, prepared.record)


def _read(files: Study | Timepoint, options: SegmentOptions) -> Study:
    if isinstance(files, Timepoint):
        return load_study(files, reference=options.reference)
    return files if options.reference is None else replace(files, reference=options.reference)


def _stripped(study: Study, heads: Mapping[MRSequence, str], options: SegmentOptions) -> StrippedStudy | None:
    """The study without skull; None where it has none, or is taken as it is."""
    if options.force and options.brain_mask is None:
        return None
    return strip_study(study, heads, options)


def _on_native(stripped: StrippedStudy) -> Volume:
    """The brain on the grid results are written on."""
    return resample(Volume(stripped.brain.astype(np.uint8), stripped.grid), stripped.native, order="nearest")


def _measured(
    segmentation: Segmentation, prepared: PreparedStudy, card: ModelCard, options: SegmentOptions
) -> Measurements:
    intervals = IntervalModel.from_dict(card.intervals) if card.intervals else None
    found = prepared.record.consistency
    fits = found["fits"] and found["is_usual_size"]
    return measure_segmentation(segmentation, intervals=intervals, min_lesion_ml=options.min_lesion_ml, fits=fits)


def _record(study: Study, prepared: PreparedStudy, predictor: Predictor, run: _Run) -> RunRecord:
    """What produced the result; the model's own warnings last: what the study lacks, and whether it is known."""
    card = predictor.bundle.card
    known, warned = _known_as(prepared, card), [*run.warnings, card.expected_loss(prepared.present)]
    if known:
        warned.append(f"the model was trained on scans of this head (as {known}): no accuracy can be measured on it")
    return RunRecord(
        study_id=study.id,
        versions=versions(),
        model=model_summary(predictor.bundle, trained_on_this_study=bool(known) if card.seen else None),
        device=predictor.device,
        engine=predictor.engine,
        inputs=inputs_of(study),
        preparation=prepared.record.to_dict(),
        timings_s=run.timings_s,
        peak_memory_mib=peak_memory_mib(),
        decisions=tuple(run.decisions),
        warnings=tuple(dict.fromkeys(filter(None, warned))),
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _known_as(prepared: PreparedStudy, card: ModelCard) -> str:
    """The study a model was trained on that shows the same head or bears the same id; empty if there is none."""
    if prepared.id in card.seen or not card.fingerprints:
        return prepared.id if prepared.id in card.seen else ""
    return same_head(fingerprints(prepared.array, prepared.brain, prepared.sequences), card.fingerprints)


def _opening(study: Study, options: SegmentOptions, predictor: Predictor) -> list[str]:
    order = [sequence for sequence in REFERENCE_PREFERENCE if sequence in predictor.bundle.card.sequences]
    chosen = "as asked" if options.reference else f"the first there of {', '.join(s.title for s in order)}"
    lines = [f"results are written on the grid of {study.reference_sequence.title}: {chosen}"]
    if missing := [s.title for s in SEQUENCES if s in order and s not in study.images]:
        lines.append(f"not there: {', '.join(missing)}")
    if "auto" in (options.engine, options.device):
        lines.append(f"the network runs in {predictor.engine} on {predictor.device}")
    return lines


def _write(
    files: Study | Timepoint, folder: Path, options: SegmentOptions, predictor: Predictor | None, run: _Run
) -> Visit:
    result, bundle, aligned = _compute(files, options, predictor, run)
    probabilities = result.segmentation.probabilities
    forms = scan_forms(files, options.reference_among(result.images)) if isinstance(files, Timepoint) else None
    with ThreadPoolExecutor(1) as beside:  # what packs lets the rest go on
        path = folder / f"{result.segmentation.study_id}_probseg.nii.gz"
        packed = None
        if probabilities is not None:
            packed = beside.submit(write_probabilities, probabilities, path, forms=forms)
        with run.step("write"):
            _write_results(result, options, folder, forms)
        if options.report:
            with run.step("report"):
                _write_report(replace(result, images=aligned()), bundle, options, folder)
        if packed is not None:
            packed.result()
    record = replace(
        result.record, timings_s=dict(run.timings_s), peak_memory_mib=peak_memory_mib(), outputs=file_hashes(folder)
    )
    write_run(record, folder / "run.json")
    return replace(result, record=record)


def _write_results(result: Visit, options: SegmentOptions, folder: Path, forms: SpatialForms | None) -> None:
    name = result.segmentation.study_id
    dseg = folder / f"{name}_dseg.nii.gz"
    write_label_map(result.segmentation, dseg, forms=forms)
    sources = {MRSequence(role): entry["sha256"] for role, entry in result.record.inputs.items()}
    write_dseg_sidecars(
        result.segmentation,
        dseg,
        algorithm=result.record.model,
        version=brats_seg.__version__,
        sources={s: sha for s, sha in sources.items() if sha},
    )
    write_tables(result.measurements, folder)
    write_visit(result, folder)
    _write_exports(result, options, folder)


def _write_exports(visit: Visit, options: SegmentOptions, folder: Path) -> None:
    """Write DICOM where the scans are DICOM, and what else was asked for."""
    name = visit.segmentation.study_id
    if _FOR_ANY_SCAN in options.also:
        from brats_seg.files.seg_nrrd import write_seg_nrrd  # noqa: PLC0415

        write_seg_nrrd(visit.segmentation, folder / f"{name}.seg.nrrd")
    wanted = {"seg"} if options.dicom is not False else set()
    wanted |= {"lesions"} if wanted and options.named else set()
    wanted |= set(options.also) - {_FOR_ANY_SCAN, "pdf"}
    if wanted and isinstance(visit.timepoint, DicomTimepoint):
        from brats_seg.run.dicom_exports import write_objects  # noqa: PLC0415 - heavy

        write_objects(visit, visit.timepoint, wanted, options, folder)


def _write_report(result: Visit, bundle: ModelBundle, options: SegmentOptions, folder: Path) -> None:
    from brats_seg.report.figures import report_pictures  # noqa: PLC0415 - not needed with --no-report
    from brats_seg.report.html import render_report  # noqa: PLC0415

    name, pictures = result.segmentation.study_id, report_pictures(result)
    page = render_report(result, model_card=bundle.card.to_dict(), pictures=pictures)
    write_text(folder / f"{name}_report.html", page)
    (folder / f"{name}_overlay.png").write_bytes(pictures.overlay)
    if "pdf" in options.also and isinstance(result.timepoint, DicomTimepoint):
        from brats_seg.run.dicom_exports import write_pdf  # noqa: PLC0415 - heavy

        write_pdf(result, result.timepoint, page, options, folder)


def reason_to_redo(folder: Path, settings: Mapping[str, Any], model_sha256: str, inputs: Mapping[str, str]) -> str:
    """Why an earlier result cannot stand for what would be computed now; empty if it can.

    Args:
        settings: options in force now.
        model_sha256: of the model now; empty where none runs.
        inputs: checksum of everything that goes in now, by name.
    """
    if not finished(folder):
        return "its results are not whole"
    record = read_run(folder) or {}
    before = {name: value for name, value in record.get("settings", {}).items() if name != TOKEN}
    if before != dict(settings):
        return "it was made with other options"
    if record.get("model", {}).get("sha256", "") != model_sha256:
        return "it was made with another model"
    made_by = record.get("versions", {})
    if (made_by.get("brats_seg"), made_by.get("brats_seg_code")) != (brats_seg.__version__, code_fingerprint()):
        return "it was made by another version of the program"
    if {name: entry.get("sha256") for name, entry in record.get("inputs", {}).items()} != dict(inputs):
        return "its scans have changed"
    return ""


def prepare_config(values: Mapping[str, Any]) -> PrepareConfig:
    """Preprocessing settings as a card holds them.

    Raises:
        ModelError: if there is no such setting, or a value does not fit.
    """
    known = [entry.name for entry in fields(PrepareConfig)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ModelError(f"prepare: there is no setting {', '.join(unknown)}; there are {', '.join(known)}")
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    try:
        return PrepareConfig(**plain)
    except (TypeError, ValueError, AttributeError) as error:  # from a file a value can be of any type
        raise ModelError(f"prepare: {error}") from error
