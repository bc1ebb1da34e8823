"""The files of a phantom data set: BIDS names, label maps with their meaning, truth, the page with pictures.

``sub-X/ses-Y/`` appears whole or not at all. Label maps lie beside the scans, where every loader of this program (and
of BraTS) looks for an expert's; ``.bidsignore`` says so to BIDS validators.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import brats_seg
from brats_seg.core.errors import InputError, OutputError
from brats_seg.core.grid import Volume
from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence
from brats_seg.core.tables import csv_text
from brats_seg.core.visit import Segmentation
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.output import OutputFolder, atomic_write, read_run, write_text
from brats_seg.files.sidecar import write_dseg_sidecars
from brats_seg.files.tables import write_json
from brats_seg.files.write import write_label_map, write_volume
from brats_seg.models.card import regions_of
from brats_seg.phantom.acquire import THREADS
from brats_seg.phantom.course import VisitPhantom, label_map
from brats_seg.phantom.defects import Defect, DefectKind, apply_defect, damage_bytes, draw_defect
from brats_seg.phantom.fields import resample_box
from brats_seg.phantom.page import dataset_html
from brats_seg.phantom.script import Course, PatientKind
from brats_seg.phantom.skull import Skull, add_skull

TRUTH_FILE = "phantom.json"
PAGE = "phantoms.html"
TABLE = "phantoms.tsv"
LESION_TABLE = "lesions.tsv"
BIDS_VERSION = "1.9.0"
BIDS_NAMES: Mapping[MRSequence, str] = {
    MRSequence.T1: "T1w",
    MRSequence.T1CE: "ce-gadolinium_T1w",
    MRSequence.T2: "T2w",
    MRSequence.FLAIR: "FLAIR",
}
_IGNORED = "*_dseg.*\n**/*_dseg.*\n**/*_desc-brain_mask.nii.gz\nphantom*\nlesions.tsv\n**/phantom.json\n"
_README = """\
Phantom patients made by brats_seg: no real person's data.

Every image was computed; every volume is known.
  sub-*/ses-*/phantom.json   the truth of a visit
  sub-*/phantom.json         the truth of a patient
  phantoms.tsv, lesions.tsv  one row for each visit; one for each lesion and visit
  phantoms.html              pictures
"""


@dataclass(frozen=True)
class VisitPlace:
    """Where a visit's files go.

    Attributes:
        patient_folder: ``…/sub-X``.
        patient: ``sub-X``.
        label: of the visit, without ``ses-``.
    """

    patient_folder: Path
    patient: str
    label: str

    @property
    def session(self) -> str:
        """``ses-Y``."""
        return f"ses-{self.label}"

    @property
    def study_id(self) -> str:
        """``sub-X_ses-Y``."""
        return f"{self.patient}_{self.session}"

    @property
    def folder(self) -> Path:
        """``…/sub-X/ses-Y``."""
        return self.patient_folder / self.session


def visit_is_whole(place: VisitPlace) -> bool:
    """Whether a visit is there and every file is as it was written."""
    outputs = (read_truth(place.folder) or {}).get("outputs")
    if not isinstance(outputs, dict) or not outputs:
        return False
    try:
        return all(file_sha256(place.folder / name) == sha for name, sha in outputs.items())
    except InputError:
        return False


def read_truth(folder: Path) -> dict[str, Any] | None:
    """The truth file in a folder; None where there is none that can be read."""
    return read_run(folder, TRUTH_FILE)


def write_visit(
    place: VisitPlace,
    visit: VisitPhantom,
    *,
    kind: PatientKind,
    settings: Mapping[str, Any],
    skull: Skull | None,
    defect_kind: DefectKind | None,
    skull_rng: np.random.Generator,
    defect_rng: np.random.Generator,
) -> None:
    """Write one visit.

    Args:
        kind: of the patient, for the truth file.
        settings: of the data set, for the truth file.
        skull: scalp, fat, skull and eyes that are added; None for none.
        defect_kind: None for a clean visit.
        skull_rng: chance of this scan outside the brain: contrast and noise.
        defect_rng: chance of the defect.

    Raises:
        OutputError: if it cannot be written, or its folder holds foreign files.
    """
    _make_room(place)
    study, brain = visit.phantom.study, None
    if skull is not None:
        brain = study.reference_volume.with_data((study.reference_volume.data > 0).astype(np.uint8))
        study = add_skull(study, skull, skull_rng, tumour=visit.phantom.labels)
    defect = None if defect_kind is None else draw_defect(defect_kind, study, defect_rng)
    study = study if defect is None else apply_defect(study, defect)
    labels = labels_on(study, visit)
    with OutputFolder(place.folder) as folder:
        anat = folder.path / "anat"
        anat.mkdir()
        _write_scans(study, anat, place.study_id, defect)
        _write_labels(labels, anat / f"{place.study_id}_dseg.nii.gz", place.study_id)
        if brain is not None:
            mask = Segmentation(place.study_id, brain, SCHEMAS["menrt"], regions_of())  # of one number, as a mask is
            write_label_map(mask, anat / f"{place.study_id}_desc-brain_mask.nii.gz")
        record = {
            "study": place.study_id,
            "patient": place.patient,
            "visit": place.label,
            "date": visit.truth.day.isoformat(),
            "kind": kind,
            "truth_ml": visit.truth.volume_ml,
            "defects": [] if defect is None else [defect.to_dict()],
            "skull": None if skull is None else skull.to_dict(),
            "truth": visit.truth.to_dict(),
            "rows": visit.truth.rows(),
            "phantom": visit.phantom.description,
            "grids": {s.value: volume.grid.describe() for s, volume in study.images.items()},
            "labels": {"schema": DEFAULT_SCHEMA.name, "grid": labels.grid.describe()},
            "settings": settings,
            "versions": {"brats_seg": brats_seg.__version__, "numpy": np.__version__},
            "outputs": {f"anat/{path.name}": file_sha256(path) for path in sorted(anat.iterdir())},
        }
        write_json(record, folder.path / TRUTH_FILE)


def _make_room(place: VisitPlace) -> None:
    """Remove what is left of a visit that is not whole, if nothing in it is a stranger's.

    Raises:
        OutputError: if there is.
    """
    if not place.folder.exists():
        return
    known = {f"anat/{name}" for name in _names(place.study_id)} | {TRUTH_FILE}
    found = {path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*") if path.is_file()}
    foreign = sorted(name for name in found - known if Path(name).name not in (".DS_Store", "Thumbs.db"))
    if foreign:
        raise OutputError(
            f"{place.folder} is not whole and holds what this program did not write ({foreign[0]}). Move that away."
        )
    shutil.rmtree(place.folder)


def _names(study_id: str) -> list[str]:
    endings = [f"{name}.nii.gz" for name in BIDS_NAMES.values()]
    return [f"{study_id}_{end}" for end in (*endings, "dseg.nii.gz", "dseg.json", "dseg.tsv", "desc-brain_mask.nii.gz")]


def labels_on(study: Study, visit: VisitPhantom) -> Volume:
    """The label map on the grid of the file that results are written on, which a missing T1CE changes."""
    phantom, grid = visit.phantom, study.reference_volume.grid
    if phantom.labels.grid.same_as(grid):
        return phantom.labels
    fractions = {
        structure: resample_box(np.ascontiguousarray(part.data), part.grid, grid)
        for structure, part in phantom.fractions.items()
    }
    return Volume(label_map(fractions), grid)


def _write_scans(study: Study, folder: Path, study_id: str, defect: Defect | None) -> None:
    def write(sequence: MRSequence, volume: Volume) -> None:
        path = folder / f"{study_id}_{BIDS_NAMES[sequence]}.nii.gz"
        write_volume(volume, path)
        if defect is not None and defect.kind is DefectKind.DAMAGED and sequence in defect.sequences:
            content = damage_bytes(path.read_bytes(), defect)
            with atomic_write(path) as stream:
                stream.write(content)

    with ThreadPoolExecutor(THREADS) as pool:  # packing leaves the interpreter to others
        list(pool.map(write, study.images.keys(), study.images.values()))


def _write_labels(labels: Volume, path: Path, study_id: str) -> None:
    segmentation = Segmentation(study_id, labels, DEFAULT_SCHEMA, regions_of())
    write_label_map(segmentation, path)
    write_dseg_sidecars(segmentation, path, algorithm={"name": "phantom"}, version=brats_seg.__version__)


def write_patient_files(folder: Path, course: Course, places: Sequence[VisitPlace]) -> None:
    """``sessions.tsv`` and the truth about the patient."""
    first = course.visits[0].day
    rows = ["session_id\tacq_time\tdays\ttreatment"]
    for place, visit in zip(places, course.visits, strict=True):
        rows.append(f"{place.session}\t{visit.day.isoformat()}\t{(visit.day - first).days}\t{visit.treatment or 'n/a'}")
    write_text(folder / f"{course.patient_id}_sessions.tsv", "\n".join(rows) + "\n")
    visits = [read_truth(place.folder) or {} for place in places]
    record = {
        "patient": course.patient_id,
        "course": course.to_dict(),
        "visits": [
            {key: visit.get(key) for key in ("study", "date", "truth_ml", "truth", "defects")} for visit in visits
        ],
    }
    write_json(record, folder / TRUTH_FILE)


def write_top_files(output: Path, settings: Mapping[str, Any]) -> Path:
    """Everything that speaks of the data set as a whole; returns the page."""
    truths = [truth for folder in sorted(output.glob("sub-*/ses-*")) if (truth := read_truth(folder)) is not None]
    write_text(output / "README", _README)
    write_text(output / ".bidsignore", _IGNORED)
    description = {
        "Name": "brats_seg phantom patients",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "License": "CC0",
        "GeneratedBy": [
            {
                "Name": "brats_seg",
                "Version": brats_seg.__version__,
                "Description": f"phantoms, seed {settings['seed']}",
            }
        ],
    }
    write_json(description, output / "dataset_description.json")
    kinds = {truth["patient"]: truth["kind"] for truth in truths}
    _write_tsv(output / "participants.tsv", [{"participant_id": name, "kind": kind} for name, kind in kinds.items()])
    _write_tsv(output / TABLE, [_table_row(truth) for truth in truths])
    lesions = [
        {"study": truth["study"], "patient": truth["patient"], **row} for truth in truths for row in truth["rows"]
    ]
    if lesions:
        _write_tsv(output / LESION_TABLE, lesions)
    write_text(output / PAGE, dataset_html(output, truths, settings))
    return output / PAGE


def _table_row(truth: Mapping[str, Any]) -> dict[str, Any]:
    volumes = {f"{r.name}_ml": round(float(truth["truth_ml"].get(r.name, 0.0)), 4) for r in regions_of()}
    head = {name: truth[name] for name in ("study", "patient", "visit", "date", "kind")}
    return {**head, **volumes, "defects": ",".join(defect["defect"] for defect in truth["defects"]) or None}


def _write_tsv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under the names of the first one's cells."""
    write_text(path, csv_text(list(rows[0]), rows, delimiter="\t", unknown="n/a"))
