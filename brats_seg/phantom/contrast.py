"""How bright each tissue is on each sequence, and how much it varies.

The numbers are levels in standard deviations of the brain's signal; an affine change of a row of a sequence means
nothing, since files have arbitrary units and the network sees z-scores. They were chosen so that the z-scores of
phantoms come out as measured on public BraTS studies, measured the same way on both. That the order of tissues is as
it should be follows from T1-weighting, T2-weighting and the inversion that nulls CSF in FLAIR; for what the sequences
show of a glioma see Menze et al., IEEE TMI 2015;34:1993 (doi:10.1109/TMI.2014.2377694).
Vessels, and the fine texture of healthy tissue, were chosen by eye beside real scans.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from brats_seg.core.study import SEQUENCES, MRSequence


class Tissue(Enum):
    """What a voxel of a phantom may consist of."""

    CSF = "cerebrospinal fluid"
    GREY = "grey matter"
    WHITE = "white matter"
    VESSEL = "vessels and dura"
    NECROSIS = "necrotic core"
    CORE = "non-enhancing core of a low-grade tumour"
    EDEMA = "edema"
    ENHANCING = "enhancing tumour"


_T = Tissue
_ROWS: Mapping[Tissue, tuple[float, float, float, float]] = {
    #             T1     T1CE   T2     FLAIR
    _T.CSF: (-2.00, -1.20, 2.75, -1.60),
    _T.GREY: (-0.42, -0.45, 0.10, 0.10),
    _T.WHITE: (0.65, 0.03, -0.40, -0.30),
    _T.VESSEL: (-0.50, 3.50, -0.50, -0.80),
    _T.NECROSIS: (-0.50, -0.90, 1.50, 0.95),
    _T.CORE: (-0.75, -0.80, 1.95, 1.35),
    _T.EDEMA: (-0.15, -0.40, 1.00, 0.95),
    _T.ENHANCING: (-0.25, 0.95, 0.95, 1.00),
}
SIGNAL: Mapping[MRSequence, Mapping[Tissue, float]] = {
    sequence: {tissue: row[column] for tissue, row in _ROWS.items()} for column, sequence in enumerate(SEQUENCES)
}
"""Level of each pure tissue on each sequence, from the mean of the brain."""

_VARIATION: Mapping[Tissue, tuple[float, float, float, float]] = {
    _T.CSF: (0.15, 0.20, 0.40, 0.25),
    _T.GREY: (0.25, 0.35, 0.25, 0.35),
    _T.WHITE: (0.25, 0.28, 0.15, 0.28),
    _T.VESSEL: (0.00, 0.50, 0.00, 0.00),
    _T.NECROSIS: (0.30, 0.30, 0.65, 0.55),
    _T.CORE: (0.30, 0.30, 0.60, 0.60),
    _T.EDEMA: (0.25, 0.22, 0.45, 0.38),
    _T.ENHANCING: (0.30, 0.70, 0.50, 0.45),
}
VARIATION: Mapping[MRSequence, Mapping[Tissue, float]] = {
    sequence: {tissue: row[column] for tissue, row in _VARIATION.items()} for column, sequence in enumerate(SEQUENCES)
}
"""Standard deviation of the texture inside each pure tissue, in the same unit."""

WIDE: Mapping[MRSequence, float] = {
    MRSequence.T1: 0.9,
    MRSequence.T1CE: 0.4,
    MRSequence.T2: 0.5,
    MRSequence.FLAIR: 0.3,
}
"""Share of the texture of healthy tissue that varies over centimetres, in the same unit. Chosen so that brightness of
white matter differs over 10 to 25 mm as it does in public BraTS studies: by 0.10 standard deviations of the brain in T1
and T1CE, 0.06 in T2, 0.09 in FLAIR (median of 10 studies, 8 mm and more from the tumour). With 0.9 for all it
was 0.24 in FLAIR, and patches of healthy brain looked like edema."""

ZERO_LEVEL: Mapping[MRSequence, float] = {
    MRSequence.T1: 4.0,
    MRSequence.T1CE: 3.4,
    MRSequence.T2: 2.6,
    MRSequence.FLAIR: 3.0,
}
"""Mean over standard deviation within the brain, median of the same studies: how far z = 0 lies above no signal."""
