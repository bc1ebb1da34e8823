"""The demonstration: a phantom patient goes through the whole program, and the truth stands beside the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats_seg.core.labels import DEFAULT_SCHEMA, REGIONS
from brats_seg.core.results import Segmentation
from brats_seg.io.discover import find_study
from brats_seg.io.output import ExistsPolicy, OutputFolder, file_hashes
from brats_seg.io.write import write_json, write_label_map, write_volume
from brats_seg.phantom import PhantomConfig, make_phantom
from brats_seg.pipeline import STEPS as SEGMENT_STEPS
from brats_seg.pipeline import SegmentOptions, segment_study, versions

STEPS = ("phantom", *SEGMENT_STEPS)
"""Names of the steps, in order."""


@dataclass(frozen=True)
class Demo:
    """Where the demonstration put things, and what it found.

    Attributes:
        scans: folder of the phantom's four scans and true label map.
        results: folder of the segmentation.
        report: the HTML report.
        truth_ml: true volume by region.
        found_ml: segmented volume by region.
    """

    scans: Path
    results: Path
    report: Path
    truth_ml: Mapping[str, float]
    found_ml: Mapping[str, float]


def run_demo(
    output: Path, *, seed: int = 1, exists: ExistsPolicy = "refuse", tick: Callable[[str], None] | None = None
) -> Demo:
    """Make a phantom patient, write its scans as files, and segment those files.

    Raises:
        OutputError: if results exist already or cannot be written.
    """
    if tick is not None:
        tick("phantom")
    identity = f"phantom-{seed:03d}"
    phantom = make_phantom(PhantomConfig(study_id=identity), np.random.default_rng(seed))
    truth_ml = {region.abbreviation: phantom.truth[region.abbreviation] for region in REGIONS}
    with OutputFolder(output / "scans" / identity, exists=exists) as folder:
        for sequence, volume in phantom.study.images.items():
            write_volume(volume, folder.path / f"{identity}_{sequence.value}.nii.gz")
        truth = Segmentation(identity, phantom.labels, DEFAULT_SCHEMA)
        write_label_map(truth, folder.path / f"{identity}_seg.nii.gz")
        record = {
            "study_id": identity,
            "seed": seed,
            "truth_ml": truth_ml,
            "phantom": phantom.description,
            "versions": versions(),
            "outputs": file_hashes(folder.path),
        }
        write_json(record, folder.path / "run.json")
    scans = folder.final
    options = SegmentOptions(exists=exists)
    result = segment_study(find_study(scans), output / "results", options=options, tick=tick)
    assert result.folder is not None  # an output folder was passed
    found = {region.abbreviation: result.measurements.volume(region).volume_ml for region in REGIONS}
    return Demo(scans, result.folder, result.folder / f"{identity}_report.html", truth_ml, found)
