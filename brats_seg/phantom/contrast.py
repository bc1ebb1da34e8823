"""How bright each tissue is on each sequence, and how much it varies.

The numbers are z-scores within the brain, the unit the network sees. They were measured on public BraTS studies
(median of the median z-score of 14 studies of 2018, 2021 and 2023; tissues outside the tumour by three-class
k-means on T1, T2 and FLAIR, tumour classes from the expert labels), then pure CSF was moved outwards until the
phantom, measured the same way, gave the same medians: k-means clusters of real scans hold partial volume, a pure
tissue does not. That the order of tissues is as it should be follows from T1-weighting, T2-weighting and the
inversion that nulls CSF in FLAIR; see Menze et al., IEEE TMI 2015;34:1993 (doi:10.1109/TMI.2014.2377694),
section II, for what the four sequences show of a glioma. Vessels were chosen by eye.
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
    _T.CSF: (-2.10, -1.40, 2.80, -1.75),
    _T.GREY: (-0.42, -0.45, 0.10, 0.10),
    _T.WHITE: (0.68, 0.10, -0.42, -0.30),
    _T.VESSEL: (-0.50, 3.50, -0.50, -0.80),
    _T.NECROSIS: (-0.48, -0.75, 1.60, 0.95),
    _T.CORE: (-0.75, -0.80, 1.95, 1.35),
    _T.EDEMA: (-0.02, -0.22, 1.05, 1.00),
    _T.ENHANCING: (-0.08, 1.20, 1.05, 1.15),
}
SIGNAL: Mapping[MRSequence, Mapping[Tissue, float]] = {
    sequence: {tissue: row[column] for tissue, row in _ROWS.items()} for column, sequence in enumerate(SEQUENCES)
}
"""Mean z-score of each pure tissue on each sequence."""

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
"""Standard deviation of the texture inside each pure tissue, z-score; from the same measurement."""

ZERO_LEVEL: Mapping[MRSequence, float] = {
    MRSequence.T1: 4.0,
    MRSequence.T1CE: 3.4,
    MRSequence.T2: 2.6,
    MRSequence.FLAIR: 3.0,
}
"""Mean over standard deviation within the brain, median of the same studies: how far z = 0 lies above no signal."""
