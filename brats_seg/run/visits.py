"""One visit of a course: segmented, kept from before, or read from a label map that exists."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Affine, Volume
from brats_seg.core.regions import LabelSchema, Region
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.visit import Measurements, Segmentation
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.load import read_scan, scan_sha256, scan_title
from brats_seg.files.nifti import file_sha256, read_label_map
from brats_seg.files.output import read_run
from brats_seg.models.card import ModelBundle
from brats_seg.run.masks import read_mask
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import reason_to_redo, segment_study
from brats_seg.segment.predict import Predictor
from brats_seg.track.map_on_scan import RULES, check_map_on_scan
from brats_seg.volumetrics.measure import measure_segmentation

SEGMENTATIONS = "segmentations"
"""Folder in the output that holds one result folder for each visit that was segmented."""

Tick = Callable[[str], None]


@dataclass(eq=False)
class Model:
    """The model of a run: its card at once, its networks when the first visit needs them."""

    bundle: ModelBundle
    open: Callable[[], Predictor]
    _predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """Opened once."""
        if self._predictor is None:
            self._predictor = self.open()
        return self._predictor


@dataclass(eq=False)
class VisitData:
    """One visit with its label map, as the course needs it.

    Attributes:
        files: where it came from.
        segmentation: on the visit's own grid.
        measurements: volumes with intervals where they are known, lesions, diameters.
        by_model: whether this program's model made the label map.
        key: changes with anything that went into the label map or the scans.
        registrations: for sequences on other grids, RAS+ mm of the label map to RAS+ mm of the scan.
        how: how the label map came about, in words.
        warnings: what to know before its numbers are used.
    """

    files: Timepoint
    segmentation: Segmentation
    measurements: Measurements
    by_model: bool
    key: str
    registrations: Mapping[MRSequence, Affine] = field(default_factory=dict)
    how: str = ""
    warnings: tuple[str, ...] = ()
    _images: dict[MRSequence, Volume] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the visit."""
        return self.files.label

    @property
    def sequences(self) -> tuple[MRSequence, ...]:
        """Scans that are there."""
        return tuple(self.files.files)

    @property
    def tumour(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Everything the label map holds, cavities too."""
        return np.asarray(self.segmentation.labels.data) > 0

    def image(self, sequence: MRSequence) -> Volume:
        """A scan, read once."""
        if sequence not in self._images:
            self._images[sequence] = read_scan(self.files, sequence).volume
        return self._images[sequence]

    def forget_images(self) -> None:
        """Give the memory of the scans back."""
        self._images.clear()

    def on_grid(self, sequence: MRSequence) -> bool:
        """Whether a scan lies on the grid of the label map."""
        return self.image(sequence).grid.same_as(self.segmentation.labels.grid)


def visit_key(files: Timepoint) -> str:
    """Checksum of a visit's input files.

    Raises:
        InputError: if one cannot be read.
    """
    shas = {sequence.value: scan_sha256(files, sequence) for sequence in files.files}
    if files.mask is not None:
        shas["mask"] = file_sha256(files.mask)
    return hashlib.sha256(json.dumps(shas, sort_keys=True).encode()).hexdigest()


def refuse_repeats(patient: str, visits: Sequence[Timepoint]) -> None:
    """See that no scan, and no label map without scans, is given as two visits.

    Raises:
        InputError: naming the visits and what they share.
    """
    for one, other in itertools.combinations(visits, 2):
        shared = (s for s in one.files if s in other.files and _same_scan(one, other, s))
        same = [(sequence.title, scan_title(one, sequence), scan_title(other, sequence)) for sequence in shared]
        # The label map of an untouched brain is empty at every visit.
        masks = None if one.mask is None or other.mask is None else (one.mask, other.mask)
        if masks is not None and _same_file(*masks) and (read_label_map(masks[0]).data > 0).any():
            same.append(("label map", masks[0].name, masks[1].name))
        for what, name, twin in same:
            raise InputError(
                f"visits {one.label} and {other.label} of patient {patient} have the very same {what} "
                f"({name} and {twin}), so that nothing can have changed. Give each visit its own."
            )


def _same_scan(one: Timepoint, other: Timepoint, sequence: MRSequence) -> bool:
    if isinstance(one, DicomTimepoint) or isinstance(other, DicomTimepoint):
        return scan_sha256(one, sequence) == scan_sha256(other, sequence)
    return _same_file(one.files[sequence], other.files[sequence])


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and file_sha256(one) == file_sha256(other)
    except OSError:
        return False  # said when it is read


def load_visit(
    files: Timepoint,
    output: Path,
    *,
    options: SegmentOptions,
    schema: str | LabelSchema,
    model: Model,
    tick: Tick | None = None,
) -> VisitData:
    """The visit's label map and measurements; segmented only where that was not done before with the same means.

    Args:
        files: of the visit.
        output: folder of the run; segmentations go into its :data:`SEGMENTATIONS`.
        options: how to segment.
        schema: label schema of an existing label map, or its name, or ``auto``.
        model: what segments.
        tick: called with each step of a segmentation.

    Raises:
        BratsSegError: if the visit cannot be read or segmented.
    """
    key = visit_key(files)
    if files.mask is not None:
        return _from_mask(files, schema, key)
    if not files.files:
        raise InputError(f"visit {files.label} has neither scans nor a label map")
    folder = output / SEGMENTATIONS / files.id
    reason = reason_to_redo(folder, files, options, model.bundle) if folder.exists() else "new"
    if reason:
        again = replace(options, exists="overwrite", report=False)
        segment_study(files, output / SEGMENTATIONS, options=again, predictor=model.predictor, tick=tick)
    how = "segmented" if reason == "new" else f"segmented again, because {reason}" if reason else "kept from before"
    reading = read_mask(folder / f"{files.id}_dseg.nii.gz", "auto", files.id)
    measured = _with_intervals(measure_segmentation(reading.segmentation), folder / f"{files.id}_volumes.json")
    return VisitData(
        files=files,
        segmentation=reading.segmentation,
        measurements=measured,
        by_model=True,
        key=hashlib.sha256((key + reading.sha256).encode()).hexdigest(),
        registrations=_registrations(folder),
        how=how,
        warnings=tuple((read_run(folder) or {}).get("warnings", ())),
    )


def _from_mask(files: Timepoint, schema: str | LabelSchema, key: str) -> VisitData:
    assert files.mask is not None  # the caller asked
    reading = read_mask(files.mask, schema, files.id)
    doubts = _on_scan(files, reading.segmentation)
    return VisitData(
        files=files,
        segmentation=reading.segmentation,
        measurements=measure_segmentation(reading.segmentation),
        by_model=False,
        key=hashlib.sha256((key + reading.segmentation.schema.name).encode()).hexdigest(),
        how=f"label map as given; {reading.decisions[0]}",
        warnings=(*reading.warnings, *doubts),
    )


def _on_scan(files: Timepoint, segmentation: Segmentation) -> tuple[str, ...]:
    """Doubts whether a label map that was given lies on its scans.

    Raises:
        InputError: if it certainly does not.
    """
    sequence = next((known for known in (*RULES, *MRSequence) if known in files.files), None)
    if sequence is None or files.mask is None:
        return ()
    region = segmentation.region_mask(Region.ET if sequence is MRSequence.T1CE else Region.WT)
    tumour = segmentation.labels.with_data(region)
    return check_map_on_scan(tumour, read_scan(files, sequence).volume, sequence, name=files.mask.name)


def _with_intervals(measured: Measurements, path: Path) -> Measurements:
    """The measurements with the intervals and notes that were written with the probabilities at hand."""
    content = json.loads(path.read_text(encoding="utf-8"))
    stored = {row["region"]: row for row in content["volumes"]}
    volumes = tuple(
        replace(
            row,
            low_ml=stored[row.region]["low_ml"],
            high_ml=stored[row.region]["high_ml"],
            level=stored[row.region]["level"],
        )
        for row in measured.volumes
    )
    return replace(measured, volumes=volumes, notes=tuple(content["notes"]))


def _registrations(folder: Path) -> dict[MRSequence, Affine]:
    found = (read_run(folder) or {}).get("preparation", {}).get("registrations", {})
    return {MRSequence(name): np.array(entry["matrix"], dtype=np.float64) for name, entry in found.items()}
