"""What is measured: one target per row of the volumes table, and which probabilities belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.regions import REGION_STRUCTURES, REGIONS, LabelSchema, Region, Structure
from brats_seg.core.visit import RegionMaps


@dataclass(frozen=True)
class Target:
    """One region or structure to be measured.

    Attributes:
        name: abbreviation, such as ``WT`` or ``NCR``.
        structures: what it consists of.
        schema_structures: everything the label schema can say; nothing for a region it does not tell.
    """

    name: str
    structures: frozenset[Structure]
    schema_structures: frozenset[Structure]

    @property
    def is_known(self) -> bool:
        """Whether the label schema tells it; else an empty mask says nothing about the patient."""
        return bool(self.structures & self.schema_structures)

    def probability(self, probabilities: RegionMaps) -> NDArray[np.float32] | None:
        """``(X, Y, Z)`` probability, or None where the channels WT, TC and ET do not tell it.

        They tell a structure that is alone between two nested regions in its schema, by their difference:
        NCR is TC less ET, ED is WT less TC.
        """
        if not self.is_known:
            return None
        for region in REGIONS:
            if self.name == region.abbreviation:
                return probabilities.region(region)
        for outer, inner in ((Region.WT, Region.TC), (Region.TC, Region.ET)):
            between = (REGION_STRUCTURES[outer] - REGION_STRUCTURES[inner]) & self.schema_structures
            if self.structures == between:
                difference = probabilities.region(outer) - probabilities.region(inner)
                result: NDArray[np.float32] = np.maximum(difference, 0, out=difference)
                return result
        return None


def targets_of(schema: LabelSchema) -> tuple[Target, ...]:
    """WT, TC and ET, then every structure of a schema that is not one of them, in the order of its numbers."""
    known = frozenset(schema.structures)
    regions = [
        Target(region.abbreviation, REGION_STRUCTURES[region], known if region in schema.regions else frozenset())
        for region in REGIONS
    ]
    taken = {target.name for target in regions}
    others = [Target(s.abbreviation, frozenset({s}), known) for s in schema.structures if s.abbreviation not in taken]
    return (*regions, *others)
