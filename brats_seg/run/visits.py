"""One visit of a course: segmented, kept from before, or read from a label map that exists."""

from __future__ import annotations

import filecmp
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import LabelSchema
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.core.visit import RunRecord, Segmentation, Visit
from brats_seg.files.dicom_study import DicomTimepoint
from brats_seg.files.label_map import marks_anything, read_label_file, read_mask
from brats_seg.files.load import input_hashes, scan_sha256, scan_title
from brats_seg.files.names import is_nifti
from brats_seg.files.sidecar import read_regions
from brats_seg.files.visit_folder import ScanFiles, read_visit
from brats_seg.imaging.placing import coincides, widened
from brats_seg.imaging.register import resample
from brats_seg.models.card import ModelBundle, find_model
from brats_seg.run.identify import settled
from brats_seg.run.options import SegmentOptions
from brats_seg.run.segment import open_predictor, reason_to_redo, segment_study
from brats_seg.segment.predict import Predictor
from brats_seg.track.map_on_scan import RULES, check_map_on_scan
from brats_seg.volumetrics.measure import measure_segmentation

SEGMENTATIONS = "segmentations"
"""Folder in the output that holds one result folder for each visit that was segmented."""


@dataclass(eq=False)
class Model:
    """The model of a run: its card at once, its networks when the first visit needs them."""

    bundle: ModelBundle
    open: Callable[[], Predictor]

    @classmethod
    def of(cls, options: SegmentOptions) -> Model:
        """The model that the options name.

        Raises:
            ModelError: if it is missing or damaged.
        """
        return cls(find_model(options.model), partial(open_predictor, options))

    @cached_property
    def predictor(self) -> Predictor:
        """Opened once."""
        return self.open()


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
        if masks is not None and _same_file(*masks) and marks_anything(masks[0]):
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
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False  # said when it is read


def shared_grid(visits: Sequence[Timepoint], schema: str | LabelSchema, model: Model) -> Grid | None:
    """One grid for the label maps of a patient without scans, where each ends where its segments do.

    Returns:
        That of the first with room for the others; None where the files say themselves where their scans ended.
    """
    masks = [visit.mask for visit in visits if visit.mask is not None]
    if any(visit.files for visit in visits) or all(is_nifti(mask.name) for mask in masks):
        return None
    grids = []
    for mask in masks:
        with suppress(InputError):  # said when the visit is loaded
            grids.append(read_label_file(mask, read_regions(mask) or model.bundle.card.regions, schema).volume.grid)
    return reduce(widened, grids) if grids else None


def load_visit(
    timepoint: Timepoint,
    output: Path,
    *,
    options: SegmentOptions,
    schema: str | LabelSchema,
    model: Model,
    grid: Grid | None = None,
) -> Visit:
    """The visit's label map and measurements; segmented only where that was not done before with the same means.

    Args:
        output: folder of the run; segmentations go into its :data:`SEGMENTATIONS`.
        schema: label schema of an existing label map, or its name, or ``auto``.
        grid: that an existing label map is put on where its voxels are voxels of it; see :func:`shared_grid`.

    Raises:
        BratsSegError: if the visit cannot be read or segmented.
    """
    if timepoint.mask is not None:
        return _from_mask(timepoint, timepoint.mask, schema, model, grid)
    timepoint = settled(timepoint)
    if not timepoint.files:
        raise InputError(f"visit {timepoint.label} has neither scans nor a label map")
    timepoint = model.bundle.card.looked_at(timepoint)
    folder = output / SEGMENTATIONS / timepoint.id
    options = replace(options, brain_mask=timepoint.brain)
    wanted = options.to_dict(), model.bundle.sha256, input_hashes(timepoint)
    reason = reason_to_redo(folder, *wanted) if folder.exists() else "new"
    if reason:
        again = replace(options, exists="overwrite", report=False, named=False)
        segment_study(timepoint, output / SEGMENTATIONS, options=again, predictor=model.predictor)
    how = "segmented" if reason == "new" else f"segmented again, because {reason}" if reason else "kept from before"
    return replace(read_visit(folder, timepoint, probabilities=False), how=how)


def _from_mask(timepoint: Timepoint, mask: Path, schema: str | LabelSchema, model: Model, grid: Grid | None) -> Visit:
    reading = read_mask(mask, schema, timepoint.id, lambda: model.bundle.card.regions)
    segmentation = reading.segmentation
    if grid is not None and coincides(segmentation.labels.grid, grid):
        moved = resample(segmentation.labels, grid, order="nearest", fill=0)
        segmentation = replace(segmentation, labels=moved)
    images = ScanFiles(timepoint)
    doubts = _on_scan(segmentation, images, mask.name)
    record = RunRecord(
        study_id=timepoint.id,
        versions={},
        inputs={name: {"sha256": sha256} for name, sha256 in input_hashes(timepoint).items()},
        decisions=reading.decisions,
        warnings=(*reading.warnings, *(timepoint.notes if isinstance(timepoint, DicomTimepoint) else ()), *doubts),
    )
    return Visit(
        timepoint=timepoint,
        segmentation=segmentation,
        measurements=measure_segmentation(segmentation),
        record=record,
        images=images,
        how=f"label map as given; {reading.decisions[0]}",
    )


def _on_scan(segmentation: Segmentation, images: Mapping[MRSequence, Volume], name: str) -> tuple[str, ...]:
    """Doubts whether a label map that was given lies on its scans."""
    sequence = next((known for known in (*RULES, *MRSequence) if known in images), None)
    if sequence is None:
        return ()
    compartment = "enhancing" if sequence is MRSequence.T1CE else "non_enhancing"
    region = segmentation.regions.of_compartment(compartment) or segmentation.regions.outermost[0]
    tumour = segmentation.labels.with_data(segmentation.region_mask(region))
    return check_map_on_scan(tumour, images[sequence], sequence, name=name)
