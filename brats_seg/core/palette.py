"""The colours of regions and tissues: one table for pictures, legends and ``dseg.tsv``.

Taken from the eight colours of Okabe and Ito, "Color Universal Design" (2008), which people with any common form of
colour blindness tell apart. A tissue has the colour of the region that it alone adds: edema that of the whole tumour,
necrosis that of the core.
"""

from __future__ import annotations

from collections.abc import Mapping

from brats_seg.core.regions import Structure

SKY_BLUE = "#56B4E9"
YELLOW = "#F0E442"
VERMILLION = "#D55E00"
ORANGE = "#E69F00"
BLUISH_GREEN = "#009E73"
REDDISH_PURPLE = "#CC79A7"
BLUE = "#0072B2"

REGION_COLOURS: Mapping[str, str] = {
    "WT": SKY_BLUE,
    "TC": YELLOW,
    "ET": VERMILLION,
    "ED": SKY_BLUE,
    "NCR": YELLOW,
    "NET": ORANGE,
    "CC": BLUISH_GREEN,
    "RC": REDDISH_PURPLE,
    "GTV": BLUE,
    "FA": SKY_BLUE,
    "TU": SKY_BLUE,
}
"""``#RRGGBB`` by the abbreviation of a region or structure."""


def structure_colour(structure: Structure) -> str:
    """Colour of one tissue class as ``#RRGGBB``, as the ``color`` column of a BIDS ``dseg.tsv`` wants it."""
    return REGION_COLOURS[structure.abbreviation]
