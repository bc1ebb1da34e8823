"""The regions that a model draws, how they nest and what they are called, as its card says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.labels import COMPARTMENTS, STRUCTURES, LabelSchema, Region, Structure
from brats_seg.core.study import MRSequence


@dataclass(frozen=True)
class RegionSet:
    """The regions of a model, outer ones before those inside them: the order of channels and of rows in tables.

    Attributes:
        regions: at least one.

    Raises:
        ValueError: if names repeat, a region lies in one that does not come before it or holds tissue that one does
            not, or two regions are followed as one compartment, or with names of one first letter.
    """

    name: str
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        if not self.regions:
            raise ValueError("there has to be a region")
        before: dict[str, Region] = {}
        for region in self.regions:
            if region.name.upper() in (name.upper() for name in before):
                raise ValueError(f"there are two regions {region.name}")
            outer = before.get(region.inside)
            if region.inside and outer is None:
                raise ValueError(f"region {region.name} lies inside {region.inside}, which must come before it")
            if outer is not None and not set(region.structures) <= set(outer.structures):
                raise ValueError(f"region {region.name} consists of structures that {outer.name} around it lacks")
            before[region.name] = region
        for compartment in COMPARTMENTS:
            same = [region.name for region in self.regions if region.compartment == compartment]
            if len(same) > 1:
                raise ValueError(f"regions {' and '.join(same)} are both followed as {compartment}; name one")
        if len({region.name[0] for region in self.followed}) < len(self.followed):
            names = " and ".join(region.name for region in self.followed)
            raise ValueError(f"the lesions of {names} could not be told apart by their first letter; rename one")

    def __iter__(self) -> Iterator[Region]:
        return iter(self.regions)

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, name: str) -> Region:
        """The region of that name.

        Raises:
            KeyError: naming those there are.
        """
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(f"there is no region {name!r}; there are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(region.name for region in self.regions)

    def index(self, region: Region) -> int:
        """The channel of a region."""
        return self.regions.index(region)

    def within(self, region: Region) -> tuple[Region, ...]:
        """Regions that lie directly inside one."""
        return tuple(other for other in self.regions if other.inside == region.name)

    @property
    def outermost(self) -> tuple[Region, ...]:
        """Regions that lie in no other; together they are all that is tumour."""
        return tuple(region for region in self.regions if not region.inside)

    @property
    def followed(self) -> tuple[Region, ...]:
        """Regions whose lesions are followed over time, what enhances first."""
        found = (self.of_compartment(compartment) for compartment in COMPARTMENTS)
        return tuple(region for region in found if region is not None)

    def of_compartment(self, compartment: str) -> Region | None:
        """The region that is followed as a compartment; None where none is."""
        return next((region for region in self.regions if region.compartment == compartment), None)

    def leading(self, disease: str) -> Region:
        """The region whose growth and pictures lead where a disease is judged: what enhances, unless that does not."""
        return self.of_compartment(disease) or self.followed[0]

    def outer_of(self, region: Region) -> Region:
        """The outermost region that a region lies in, or itself."""
        return self.outer_of(self[region.inside]) if region.inside else region

    def title(self, name: str) -> str:
        """Of a region or tissue by name; the name itself where it is neither."""
        if name in self.names:
            return self[name].title
        return self.tissues[name].title if name in self.tissues else name

    @property
    def tissues(self) -> dict[str, Structure]:
        """The known tissues, and the regions' own, by name."""
        return STRUCTURES | self.own_tissues

    @property
    def own_tissues(self) -> dict[str, Structure]:
        """Tissues of the regions that are not among the known ones, by name."""
        found = {tissue.name: tissue for region in self.regions for tissue in region.structures}
        return {name: tissue for name, tissue in found.items() if name not in STRUCTURES}

    @property
    def colours(self) -> dict[str, str]:
        """``#RRGGBB`` by name of every region and tissue."""
        return {t.name: t.colour for t in self.tissues.values()} | {r.name: r.colour for r in self.regions}

    def told_by(self, schema: LabelSchema) -> tuple[Region, ...]:
        """Regions that the numbers of a schema tell; an empty mask of any other says nothing about the patient.

        A region is not told where the schema has none of its tissues, or leaves some of them in a tissue that is
        partly outside.
        """
        known = frozenset(schema.values.values())

        def is_told(region: Region) -> bool:
            own = frozenset(region.structures)
            return bool(own & known) and not any(structure.holds & own for structure in known - own)

        return tuple(region for region in self.regions if is_told(region))

    def nest(self, array: NDArray[np.float32], *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Probabilities ``(R, X, Y, Z)`` cut to 0..1, and no region's above those of the one around it.

        Args:
            out: where to put them, which may be ``array`` itself; None takes further memory.
        """
        nested = np.clip(array, 0.0, 1.0, out=out)
        for channel, region in zip(nested, self.regions, strict=True):
            if region.inside:
                np.minimum(channel, nested[self.names.index(region.inside)], out=channel)
        return nested

    def masks(self, array: NDArray[np.float32], thresholds: Sequence[float]) -> dict[Region, NDArray[np.bool_]]:
        """Nested masks of ``(R, X, Y, Z)`` probabilities that reach each region's threshold."""
        found: dict[Region, NDArray[np.bool_]] = {}
        for region, channel, threshold in zip(self.regions, array, thresholds, strict=True):
            mask = channel >= threshold
            found[region] = mask & found[self[region.inside]] if region.inside else mask
        return found

    def alone(self, region: Region, schema: LabelSchema) -> frozenset[Structure]:
        """The tissues of a schema that a region has and none inside it has."""
        inner = {structure for other in self.within(region) for structure in other.structures}
        return frozenset(region.structures) & frozenset(schema.values.values()) - inner

    def compose(self, masks: Mapping[Region, NDArray[np.bool_]], schema: LabelSchema) -> NDArray[np.uint8]:
        """A label map (uint8) from masks of equal shape, each cut to the region around it.

        Raises:
            InputError: if a region is not exactly one tissue of the schema where no other lies inside it.
        """
        labels = np.zeros(masks[self.regions[0]].shape, np.uint8)
        nested: dict[str, NDArray[np.bool_]] = {}
        for region in self.regions:
            alone = self.alone(region, schema)
            if len(alone) != 1:
                raise InputError(
                    f"label schema {schema.name} cannot write region {region.name}: it has {len(alone)} tissues for "
                    f"what of the {region.title} lies in no other region, not one"
                )
            mask = masks[region]
            nested[region.name] = mask & nested[region.inside] if region.inside else mask
            labels[nested[region.name]] = schema.number(next(iter(alone)))
        return labels

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :meth:`from_dict`."""
        return {
            "name": self.name,
            "regions": [
                {
                    **{key: value for key, value in vars(region).items() if value not in ("", ())},
                    "structures": [structure.to_plain() for structure in region.structures],
                    **({"shown_by": [sequence.value for sequence in region.shown_by]} if region.shown_by else {}),
                }
                for region in self.regions
            ],
        }

    @classmethod
    def from_dict(cls, values: Any) -> RegionSet:
        """From plain values.

        Raises:
            ValueError: if they describe no set of regions.
        """
        listed = values.get("regions") if isinstance(values, Mapping) and set(values) == {"name", "regions"} else None
        if not isinstance(listed, list | tuple) or not isinstance(values["name"], str):
            raise ValueError("regions must hold a name and a list of regions")
        return cls(values["name"], tuple(_region_from_dict(entry) for entry in listed))


def _region_from_dict(values: Any) -> Region:
    if not isinstance(values, Mapping) or not isinstance(values.get("structures"), list | tuple):
        raise ValueError("a region must hold a name, a title, a list of structures and a colour")
    name = values.get("name")
    shown = values.get("shown_by", ())
    sequences = [sequence.value for sequence in MRSequence]
    if not isinstance(shown, list | tuple) or not all(key in sequences for key in shown):
        raise ValueError(f"shown_by {shown!r} of region {name} must list some of {', '.join(sequences)}")
    try:
        return Region(
            **{
                **values,
                "structures": tuple(map(Structure.from_plain, values["structures"])),
                "shown_by": tuple(MRSequence(key) for key in shown),
            }
        )
    except TypeError as error:
        raise ValueError(f"region {name}: {str(error).partition('__init__() ')[2]}") from error
