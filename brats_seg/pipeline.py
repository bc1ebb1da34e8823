"""Composes the rooms: segment one study, measure one label map.

Example:
    A study of four files in a folder, results in ``out/<name of the folder>``::

        from brats_seg import SegmentOptions, segment_study

        result = segment_study("patients/case_0042", "out", options=SegmentOptions(labels="brats2021"))
        print(result.measurements.volume("WT").volume_ml)

    A label map in memory:

    >>> import numpy as np
    >>> from brats_seg.core.labels import SCHEMAS
    >>> from brats_seg.core.results import Segmentation
    >>> from brats_seg.core.volume import Volume
    >>> labels = np.zeros((20, 20, 20), np.uint8)
    >>> labels[5:15, 5:15, 5:15] = 3
    >>> mask = Segmentation("case", Volume.from_affine(labels, np.eye(4)), SCHEMAS["brats2023"])
    >>> measure(mask).volume("ET").volume_ml
    1.0
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import brats_seg
from brats_seg.core.errors import DeviceError, OutputError, UsageError
from brats_seg.core.labels import guess_schema, present_values, schema_named, schema_of_name
from brats_seg.core.results import Measurements, RunRecord, Segmentation, StudyResult
from brats_seg.core.study import REFERENCE_PREFERENCE, MRSequence, Study
from brats_seg.inference.postprocess import segment, to_native
from brats_seg.inference.predict import Predictor
from brats_seg.io.discover import StudyFiles, check_study_id, find_study
from brats_seg.io.load import load_study
from brats_seg.io.nifti import file_sha256, read_forms, read_label_result
from brats_seg.io.output import ExistsPolicy, OutputFolder, file_hashes, finished, read_run, write_text
from brats_seg.io.write import (
    read_schema_sidecar,
    write_dseg_sidecars,
    write_label_map,
    write_lesions_csv,
    write_lesions_json,
    write_probabilities,
    write_run,
    write_volumes_csv,
    write_volumes_json,
)
from brats_seg.models.bundle import DEFAULT_MODEL, ModelBundle, find_model
from brats_seg.preprocessing.prepare import PrepareConfig, images_on_reference, prepare
from brats_seg.volumetrics.measure import measure_segmentation
from brats_seg.volumetrics.uncertainty import IntervalModel

STEPS = ("read", "prepare", "coarse", "fine", "restore", "measure", "write", "report")
"""Names of the steps of :func:`segment_study`, in order; keys of the timings."""

LIBRARIES = ("numpy", "scipy", "torch", "monai", "nibabel", "SimpleITK", "openvino", "connected-components-3d")

Tick = Callable[[str], None]


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; the same for every study of a run.

    Example:
        >>> SegmentOptions(reference=MRSequence.FLAIR, report=False).labels
        'brats2023'

    Attributes:
        model: name of an installed model or path of a model folder.
        engine: ``auto``, ``openvino`` or ``torch``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        labels: label schema of the label map that is written.
        reference: sequence on whose grid results are written; None takes T1CE, FLAIR, T2, T1 in that order.
        mirror: average with the prediction of the mirrored study (``--tta``).
        report: write the HTML report and the overlay picture.
        force: accept scans that do not look skull-stripped.
        exists: what to do where results exist already.
    """

    model: str = DEFAULT_MODEL
    engine: str = "auto"
    device: str = "auto"
    labels: str = "brats2023"
    reference: MRSequence | None = None
    mirror: bool = False
    report: bool = True
    force: bool = False
    exists: ExistsPolicy = "refuse"

    def __post_init__(self) -> None:
        if self.labels not in ("brats2023", "brats2021"):
            raise UsageError(f"label maps are written as brats2023 or brats2021, not {self.labels!r}")


@dataclass
class _Run:
    """What is gathered while a study runs."""

    timings_s: dict[str, float] = field(default_factory=dict)
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
    return Predictor(find_model(options.model), engine=options.engine, device=options.device, mirror=options.mirror)


def segment_study(
    study: Study | StudyFiles | str | Path,
    output: str | Path | None = None,
    *,
    options: SegmentOptions | None = None,
    predictor: Predictor | None = None,
    tick: Tick | None = None,
) -> StudyResult:
    """Tumour regions, volumes and a report of one study.

    Args:
        study: a folder with the sequences, files that were discovered, or a study in memory.
        output: folder that gets a folder ``<id>`` with all results; None writes nothing.
        options: see :class:`SegmentOptions`.
        predictor: a model opened before with :func:`open_predictor`, to save opening it again.
        tick: called with the name of each step (:data:`STEPS`) before it runs.

    Returns:
        Label map and probabilities on the reference file's grid, measurements, and the run's record.

    Raises:
        BratsSegError: the family of :mod:`brats_seg.core.errors`; nothing is left half-written.

    Example:
        Several studies with one model, nothing written::

            from brats_seg.pipeline import SegmentOptions, open_predictor, segment_study

            options = SegmentOptions(device="cpu")
            predictor = open_predictor(options)
            for folder in ("patients/a", "patients/b"):
                result = segment_study(folder, options=options, predictor=predictor)
                print(result.segmentation.study_id, result.measurements.volume("ET").volume_ml)
    """
    options = options or SegmentOptions()
    run = _Run(tick=tick)
    files = find_study(Path(study)) if isinstance(study, str | Path) else study
    if output is None:
        with _memory_explained():
            return _compute(files, options, predictor, run)[0]
    check_study_id(files.id)
    final = (Path(output) / files.id).resolve()
    if isinstance(files, StudyFiles) and any(final in path.resolve().parents for path in files.files.values()):
        raise OutputError(f"the results would take the place of the scans in {final}. Choose another output with -o.")
    with OutputFolder(final, exists=options.exists) as folder, _memory_explained():
        result = _write(files, folder.path, options, predictor, run)
        final = folder.final
    return replace(result, folder=final)


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch and SimpleITK report a failed allocation as RuntimeError, in these words.
        words = str(error).lower()
        if isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words:
            raise DeviceError("the machine ran out of memory; close other programs or use one with more") from error
        raise


def _compute(
    files: Study | StudyFiles, options: SegmentOptions, predictor: Predictor | None, run: _Run
) -> tuple[StudyResult, ModelBundle]:
    with run.step("read"):
        study = files if isinstance(files, Study) else load_study(files, reference=options.reference)
        if options.reference is not None and study.reference is not options.reference:
            study = replace(study, reference=options.reference)
    predictor = predictor or open_predictor(options)
    card = predictor.bundle.card
    with run.step("prepare"):
        prepared = prepare(study, config=prepare_config(card.prepare), force=options.force)
    prediction = predictor.predict(prepared, tick=run.tick)
    run.timings_s.update(prediction.timings_s)
    with run.step("restore"):
        native = to_native(prediction.probabilities, prepared)
        segmentation, notes = segment(native, prepared, schema_named(options.labels), card.postprocess)
        images = images_on_reference(study, prepared.record)
    with run.step("measure"):
        intervals = IntervalModel.from_dict(card.intervals) if card.intervals else None
        measurements = measure_segmentation(segmentation, intervals=intervals)
    decided = [*_opening(study, options, predictor), *prepared.record.decisions, *prediction.decisions, *notes]
    warned = [*prepared.record.warnings, *(note for note in measurements.notes if "reaches the edge" in note)]
    record = RunRecord(
        study_id=study.id,
        versions=versions(),
        model=model_summary(predictor.bundle),
        device=predictor.device,
        engine=predictor.engine,
        inputs={s.value: _input(study, s) for s in study.present},
        preparation=prepared.record.to_dict(),
        settings=_settings(options),
        timings_s=run.timings_s,
        peak_memory_mib=peak_memory_mib(),
        decisions=tuple(decided),
        warnings=tuple(dict.fromkeys(warned)),
    )
    return StudyResult(segmentation, measurements, record, images), predictor.bundle


def _opening(study: Study, options: SegmentOptions, predictor: Predictor) -> list[str]:
    chosen = "as asked" if options.reference else "the first there of T1CE, FLAIR, T2, T1"
    lines = [f"results are written on the grid of {study.reference_sequence.title}: {chosen}"]
    if study.missing:
        lines.append(f"not there: {', '.join(s.title for s in study.missing)}")
    if "auto" in (options.engine, options.device):
        lines.append(f"the network runs in {predictor.engine} on {predictor.device}")
    return lines


def _write(
    files: Study | StudyFiles, folder: Path, options: SegmentOptions, predictor: Predictor | None, run: _Run
) -> StudyResult:
    result, bundle = _compute(files, options, predictor, run)
    name = result.segmentation.study_id
    with run.step("write"):
        forms = None
        if isinstance(files, StudyFiles):
            reference = _reference_of(files, options)
            forms = read_forms(files.files[reference])
        dseg = folder / f"{name}_dseg.nii.gz"
        write_label_map(result.segmentation, dseg, forms=forms)
        sources = {MRSequence(role): entry["sha256"] for role, entry in result.record.inputs.items()}
        write_dseg_sidecars(
            result.segmentation,
            dseg,
            algorithm=model_summary(bundle),
            version=brats_seg.__version__,
            sources={s: sha for s, sha in sources.items() if sha},
        )
        if result.segmentation.probabilities is not None:
            write_probabilities(result.segmentation.probabilities, folder / f"{name}_probseg.nii.gz", forms=forms)
        _write_tables(result.measurements, folder)
    if options.report:
        with run.step("report"):
            _write_report(result, bundle, folder)
    record = replace(
        result.record, timings_s=dict(run.timings_s), peak_memory_mib=peak_memory_mib(), outputs=file_hashes(folder)
    )
    write_run(record, folder / "run.json")
    return replace(result, record=record)


def _write_tables(measurements: Measurements, folder: Path) -> None:
    name = measurements.study_id
    write_volumes_csv(measurements, folder / f"{name}_volumes.csv")
    write_volumes_json(measurements, folder / f"{name}_volumes.json")
    write_lesions_csv(measurements, folder / f"{name}_lesions.csv")


def _write_report(result: StudyResult, bundle: ModelBundle, folder: Path) -> None:
    from brats_seg.report.figures import overlay_png  # noqa: PLC0415 - matplotlib is not needed with --no-report
    from brats_seg.report.html import render_report  # noqa: PLC0415

    name = result.segmentation.study_id
    write_text(folder / f"{name}_report.html", render_report(result, model_card=bundle.card.to_dict()))
    (folder / f"{name}_overlay.png").write_bytes(overlay_png(result))


def _reference_of(files: StudyFiles, options: SegmentOptions) -> MRSequence:
    return options.reference or next(s for s in REFERENCE_PREFERENCE if s in files.files)


def reason_to_redo(folder: Path, files: StudyFiles, options: SegmentOptions, bundle: ModelBundle) -> str:
    """Why an earlier result cannot stand for what would be computed now; empty if it can.

    Args:
        folder: the result folder of the study.
        files: its scans; they are read to compare checksums.
        options: the options now.
        bundle: the model now.

    Raises:
        InputError: if a scan cannot be read.
    """
    if not finished(folder):
        return "its results are not whole"
    record = read_run(folder) or {}
    if record.get("settings") != _settings(options):
        return "it was made with other options"
    if record.get("model", {}).get("sha256") != bundle.sha256:
        return "it was made with another model"
    if record.get("versions", {}).get("brats_seg") != brats_seg.__version__:
        return "it was made by another version of the program"
    before = {role: entry.get("sha256") for role, entry in record.get("inputs", {}).items()}
    if before != {sequence.value: file_sha256(path) for sequence, path in files.files.items()}:
        return "its scans have changed"
    return ""


def measure(
    mask: Segmentation | str | Path,
    *,
    schema: str = "auto",
    study_id: str | None = None,
) -> Measurements:
    """Volumes, lesions and diameters of a label map.

    Args:
        mask: a label map file, or a segmentation in memory.
        schema: name of its label schema; ``auto`` trusts a sidecar, a BraTS file name or the values {1, 2, 4}.
        study_id: id in the tables; else the file's name without its endings.

    Raises:
        InputError: if the file is no label map, or its schema is not certain.

    Example:
        A label map of BraTS 2021::

            from brats_seg import measure

            found = measure("BraTS2021_00000_seg.nii.gz")
            largest = found.lesions_of("ET")[0]
            print(largest.volume_ml, largest.diameters.long_mm)
    """
    segmentation = mask if isinstance(mask, Segmentation) else read_mask(Path(mask), schema, study_id).segmentation
    return measure_segmentation(segmentation)


@dataclass(frozen=True, eq=False)
class MaskReading:
    """A label map that was read from a file.

    Attributes:
        segmentation: the label map with its meaning.
        sha256: checksum of the file.
        decisions: what was decided about its meaning, in words.
        warnings: what was noticed while reading, in words.
    """

    segmentation: Segmentation
    sha256: str
    decisions: tuple[str, ...]
    warnings: tuple[str, ...]


def read_mask(path: Path, schema: str, study_id: str | None) -> MaskReading:
    """A label map file with its meaning; arguments and errors as for :func:`measure`."""
    read = read_label_result(path)
    labels = read.volume
    if schema == "auto":
        values = present_values(labels.data)
        beside = read_schema_sidecar(path)
        chosen = beside or guess_schema(values, file_name=path.name)
        named = beside is None and schema_of_name(path.name) is chosen
        why = "the file beside it says so" if beside else "its name says so" if named else "its values say so"
    else:
        chosen, why = schema_named(schema), "as asked"
    chosen.check(labels.data)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    for ending in ("_dseg", "_seg", "-seg"):
        name = name.removesuffix(ending)
    identity = study_id if study_id is not None else name
    check_study_id(identity, source="the file's name" if study_id is None else "--id")
    decision = f"its numbers were read as {chosen.name} ({chosen.title}): {why}"
    return MaskReading(Segmentation(identity, labels, chosen), read.sha256, (decision,), read.notes)


def write_measurements(measurements: Measurements, mask: MaskReading, output: Path, exists: ExistsPolicy) -> Path:
    """Write the tables of :func:`measure` into ``output/<id>`` and return that folder.

    Raises:
        OutputError: if it cannot be written, exists, or holds more than such tables (a segmentation, for example).
    """
    name, schema = measurements.study_id, mask.segmentation.schema
    final = output / name
    tables = {f"{name}_{ending}" for ending in ("volumes.csv", "volumes.json", "lesions.csv", "lesions.json")}
    before = (read_run(final) or {}).get("outputs")
    if isinstance(before, dict) and set(before) - tables:
        raise OutputError(f"{final} holds a segmentation, which tables may not replace. Choose another -o, or --id.")
    with OutputFolder(final, exists=exists) as folder:
        _write_tables(measurements, folder.path)
        write_lesions_json(measurements, folder.path / f"{name}_lesions.json")
        record = RunRecord(
            study_id=name,
            versions=versions(),
            inputs={"mask": {"sha256": mask.sha256, "grid": mask.segmentation.labels.grid.describe()}},
            settings={"schema": schema.name},
            peak_memory_mib=peak_memory_mib(),
            decisions=mask.decisions,
            warnings=mask.warnings,
            outputs=file_hashes(folder.path),
        )
        write_run(record, folder.path / "run.json")
    return folder.final


def prepare_config(values: Mapping[str, Any]) -> PrepareConfig:
    """Preprocessing settings as a card holds them."""
    return PrepareConfig(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def model_summary(bundle: ModelBundle) -> dict[str, Any]:
    """What a result says of its model."""
    card = bundle.card
    return {
        "name": card.name,
        "version": card.version,
        "sha256": bundle.sha256,
        "trained_on": card.trained_on,
        "licence": card.licence,
    }


def versions() -> dict[str, str]:
    """Versions of the program, Python and the libraries that take part."""
    found = {"brats_seg": brats_seg.__version__, "python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource  # noqa: PLC0415 - not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def _input(study: Study, sequence: MRSequence) -> dict[str, Any]:
    return {"sha256": study.sha256.get(sequence, ""), "grid": study.images[sequence].grid.describe()}


def _settings(options: SegmentOptions) -> dict[str, Any]:
    """The options in force, without paths: a model outside the package shows by its checksum."""
    return {
        "engine": options.engine,
        "device": options.device,
        "labels": options.labels,
        "reference": options.reference.value if options.reference else "auto",
        "mirror": options.mirror,
        "report": options.report,
        "force": options.force,
    }
