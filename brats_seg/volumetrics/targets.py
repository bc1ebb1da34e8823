"""What is measured: one target per row of the volumes table, and which probabilities belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.labels import LabelSchema, Region, Structure
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import RegionMaps


@dataclass(frozen=True)
class Target:
    """One region or structure to be measured.

    Attributes:
        name: of the region, or abbreviation of the structure.
        known: everything the label schema can say; nothing for a region it does not tell.
        region: the region itself, or the innermost one that has the structure; None for what is no tumour.
    """

    name: str
    structures: frozenset[Structure]
    known: frozenset[Structure]
    region: Region | None

    @property
    def is_known(self) -> bool:
        """Whether the label schema tells it; else an empty mask says nothing about the patient."""
        return bool(self.structures & self.known)

    def probability(self, probabilities: RegionMaps) -> NDArray[np.float32] | None:
        """``(X, Y, Z)`` probability, or None where the regions' channels do not tell it.

        They tell a structure that is alone between a region and the one region inside it, by their difference.
        """
        region = self.region
        if not self.is_known or region is None:
            return None
        if self.name == region.name:
            return probabilities.region(region)
        inner = probabilities.regions.within(region)
        between = frozenset(region.structures) - {s for other in inner for s in other.structures}
        if len(inner) != 1 or self.structures != between & self.known:
            return None
        difference = probabilities.region(region) - probabilities.region(inner[0])
        result: NDArray[np.float32] = np.maximum(difference, 0, out=difference)
        return result


def targets_of(schema: LabelSchema, regions: RegionSet) -> tuple[Target, ...]:
    """The regions, then every structure of a schema that is not all of one, in the order of its numbers."""
    known = frozenset(schema.structures)
    told = regions.told_by(schema)
    targets = [
        Target(region.name, frozenset(region.structures), known if region in told else frozenset(), region)
        for region in regions
    ]
    for structure in schema.structures:
        if not any(region.structures == (structure,) for region in regions):
            inmost = next((region for region in reversed(regions.regions) if structure in region.structures), None)
            targets.append(Target(structure.name, frozenset({structure}), known, inmost))
    return tuple(targets)
