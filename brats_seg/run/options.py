"""How to segment, and the names of the steps."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.core.errors import UsageError
from brats_seg.core.study import REFERENCE_PREFERENCE, MRSequence
from brats_seg.models.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from brats_seg.files.output import ExistsPolicy

STEPS = ("read", "extract", "prepare", "coarse", "fine", "restore", "measure", "write", "report")
"""Names of the steps of :func:`~brats_seg.run.segment.segment_study`, in order; keys of the timings."""
ALSO = ("labelmap", "pdf", "rtstruct", "seg.nrrd")
"""Formats that are written on request."""
EXTRACTORS = ("deepbet", "hd-bet")
"""Whose networks find the brain in a head; the first comes with the package, the other with the extra ``hdbet``."""
COHORT_PAGE = "cohort.html"
_DECIDE_NOTHING = frozenset({"model", "exists", "named", "cache"})
"""Options that no result shows; a model does by its checksum."""


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; the same for every study of a run.

    Example:
        >>> SegmentOptions(reference=MRSequence.FLAIR, report=False).engine
        'auto'

    Attributes:
        model: name of an installed model or path of a model folder.
        engine: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        labels: label schema of the label map that is written; None for the first of the model's card.
        reference: sequence on whose grid results are written; None takes T1CE, FLAIR, T2, T1 in that order.
        mirror: average with the prediction of the mirrored study (``--tta``).
        report: write the HTML report and the overlay picture.
        force: take scans that do not look skull-stripped as they are.
        brain_mask: file with the brain of a study that has its skull, instead of finding it.
        brain_extraction: whose networks find it, one of :data:`EXTRACTORS`.
        min_lesion_ml: smaller components of a region are not counted as lesions (``--min-lesion-ml``).
        exists: what to do where results exist already.
        dicom: write DICOM beside the NIfTI; None where the scans are DICOM (``--no-dicom``, ``--dicom``).
        also: further formats, some of :data:`ALSO` (``--also``).
        named: report lesions in DICOM; not of a visit that is followed, whose lesions get their names later.
        cache: folder where OpenVINO keeps compiled networks for later runs; it changes nothing in the results.
    """

    model: str = DEFAULT_MODEL
    engine: str = "auto"
    device: str = "auto"
    labels: str | None = None
    reference: MRSequence | None = None
    mirror: bool = False
    report: bool = True
    force: bool = False
    brain_mask: Path | None = None
    brain_extraction: str = EXTRACTORS[0]
    min_lesion_ml: float = 0.0
    exists: ExistsPolicy = "refuse"
    dicom: bool | None = None
    also: tuple[str, ...] = ()
    named: bool = True
    cache: Path | None = None

    def reference_among(self, present: Container[MRSequence]) -> MRSequence:
        """The sequence on whose grid results are written, of those that were segmented."""
        return self.reference or next(s for s in REFERENCE_PREFERENCE if s in present)

    def to_dict(self) -> dict[str, Any]:
        """The options in force for ``run.json``, without paths."""
        import hashlib  # noqa: PLC0415 - loads OpenSSL, which a refusal does without

        mask = self.brain_mask
        return {
            **{entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in _DECIDE_NOTHING},
            "labels": self.labels or "auto",
            "reference": self.reference.value if self.reference else "auto",
            "brain_mask": None if mask is None else hashlib.sha256(mask.read_bytes()).hexdigest(),
            "dicom": "auto" if self.dicom is None else self.dicom,
            "also": sorted(set(self.also)),
        }


def check_report(options: SegmentOptions) -> None:
    """See whether the report can be written as PDF, where that is asked for; needs no scan.

    Raises:
        UsageError: if there is no report.
        InputError: if what makes PDF is not installed.
    """
    if "pdf" not in options.also:
        return
    if not options.report:
        raise UsageError("--also pdf writes the report that --no-report leaves out; pass one of them")
    from brats_seg.report.pdf import require_pdf  # noqa: PLC0415 - an extra

    require_pdf()
