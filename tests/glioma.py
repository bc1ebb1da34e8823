"""The regions of the model that comes with the package, by the names BraTS gave them."""

from __future__ import annotations

from brats_seg.models.card import regions_of

REGIONS = regions_of("glioma")
WT, TC, ET = REGIONS
