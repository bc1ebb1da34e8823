"""What tissues and regions are called in DICOM: codes of SNOMED CT and NCIt, and segments read back by them.

Source: DICOM PS3.16, CID 7159 (lesion segmentation types), and the terminology of 3D Slicer's brain tumour models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from brats_seg.core.labels import Region, Structure

_S = Structure


class Code(NamedTuple):
    """A coded concept.

    Attributes:
        value: within its scheme.
        scheme: ``SCT`` (SNOMED CT), ``NCIt``, or :data:`PRIVATE`.
        meaning: for people.
    """

    value: str
    scheme: str
    meaning: str


SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP Classes: Segmentation Storage, Label Map Segmentation Storage."""
PRIVATE = "99BRATSSEG"
"""Scheme of what no dictionary has; DICOM asks for 99 in front."""
CATEGORY = Code("49755003", "SCT", "Morphologically Altered Structure")
BRAIN = Code("12738006", "SCT", "Brain")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
CODES: Mapping[Structure, Code] = {
    _S.NCR: Code("6574001", "SCT", "Necrosis"),
    _S.ED: Code("79654002", "SCT", "Edema"),
    _S.ET: Code("86049000", "SCT", "Neoplasm, Primary"),
    _S.NET: Code("C81175", "NCIt", "Non-Enhancing Lesion"),
    _S.CC: Code("367643001", "SCT", "Cyst"),
    _S.RC: Code("RC", PRIVATE, "Resection cavity"),
    _S.GTV: Code("228791009", "SCT", "Gross tumor volume"),
    _S.FA: Code("FA", PRIVATE, "T2/FLAIR abnormality"),
    _S.TU: NEOPLASM,
}
"""As written."""


def tissue_code(tissue: Structure) -> Code:
    """The code of a tissue; one of a model's own has a private one."""
    return CODES.get(tissue) or Code(tissue.name, PRIVATE, tissue.title.capitalize())


def code_of(region: Region) -> Code:
    """The code of a region: its tissue's where it is one, else what its model's card says, else a neoplasm's."""
    if len(region.structures) == 1:
        return tissue_code(region.structures[0])
    return NEOPLASM if region.code in ("", NEOPLASM.value) else Code(region.code, "SCT", region.title.capitalize())


_ALSO_READ = {("C113842", "NCIt"): _S.ET}
_BY_CODE = {(code.value, code.scheme): tissue for tissue, code in CODES.items() if code is not NEOPLASM} | _ALSO_READ


def structure_of(value: str, scheme: str) -> Structure | None:
    """The tissue of a code; None where it is unknown, or as general as a neoplasm."""
    return _BY_CODE.get((value, scheme))
