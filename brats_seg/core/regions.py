"""What the numbers in a label map mean: one schema for each BraTS year and its relatives.

The number 4 means enhancing tumour, resection cavity or edema depending on the file, so numbers are
read through a :class:`LabelSchema` and written through one; nothing else in the project knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array


class Structure(Enum):
    """One tissue class of a label map; every voxel has at most one."""

    NCR = "necrotic tumour core"
    ED = "peritumoral edema"
    ET = "enhancing tumour"
    NET = "non-enhancing tumour"
    CC = "cystic component"
    RC = "resection cavity"
    GTV = "gross tumour volume"
    FA = "T2/FLAIR abnormality"
    TU = "tumour, not divided"

    @property
    def abbreviation(self) -> str:
        """Short name used in tables, for example ``NCR``."""
        return self.name


class Region(Enum):
    """A nested target of the BraTS evaluation: WT contains TC contains ET."""

    WT = "whole tumour"
    TC = "tumour core"
    ET = "enhancing tumour"

    @property
    def abbreviation(self) -> str:
        """Short name used in tables, for example ``WT``."""
        return self.name


REGIONS: tuple[Region, ...] = (Region.WT, Region.TC, Region.ET)
"""Order of region channels everywhere in the project."""

_S = Structure
REGION_STRUCTURES: Mapping[Region, frozenset[Structure]] = {
    Region.WT: frozenset({_S.NCR, _S.ED, _S.ET, _S.NET, _S.CC, _S.GTV, _S.FA, _S.TU}),
    Region.TC: frozenset({_S.NCR, _S.ET, _S.NET, _S.CC, _S.GTV}),
    Region.ET: frozenset({_S.ET}),
}
"""Structures of each region. A resection cavity is outside all three (BraTS 2024)."""


@dataclass(frozen=True)
class LabelSchema:
    """The meaning of the numbers in one family of label maps.

    Attributes:
        name: as typed on the command line, for example ``brats2023``.
        title: for people.
        values: number to structure; 0 is always background.
        silent: regions its numbers do not tell, although some of their structures are among them.
    """

    name: str
    title: str
    values: Mapping[int, Structure]
    silent: frozenset[Region] = frozenset()

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions its numbers tell; an empty mask of any other says nothing about the patient."""
        known = frozenset(self.values.values())
        return tuple(r for r in REGIONS if r not in self.silent and REGION_STRUCTURES[r] & known)

    @property
    def structures(self) -> tuple[Structure, ...]:
        """Structures in the order of their numbers."""
        return tuple(self.values[number] for number in sorted(self.values))

    def number(self, structure: Structure) -> int:
        """The number written for ``structure``.

        Raises:
            InputError: if the schema has no number for it.
        """
        for number, candidate in self.values.items():
            if candidate is structure:
                return number
        raise InputError(f"label schema {self.name} has no number for {structure.value}")

    def check(self, labels: Array) -> None:
        """Refuse a label map with numbers the schema does not know.

        Raises:
            InputError: naming the unknown numbers.
        """
        found = present_values(labels)
        unknown = sorted(found - set(self.values))
        if unknown:
            raise InputError(
                f"the label map holds {unknown}, which {self.name} does not know (it knows {self.numbers}). "
                f"Pass --schema with one of: {', '.join(SCHEMAS)}."
            )

    @property
    def numbers(self) -> str:
        """For messages: ``1 NCR, 2 ED, 3 ET``."""
        return ", ".join(f"{number} {self.values[number].abbreviation}" for number in sorted(self.values))

    def structure_mask(self, labels: Array, structure: Structure) -> NDArray[np.bool_]:
        """Boolean mask of one structure; all False if the schema has no such structure."""
        numbers = [number for number, candidate in self.values.items() if candidate is structure]
        return np.isin(labels, numbers)

    def region_mask(self, labels: Array, region: Region) -> NDArray[np.bool_]:
        """Boolean mask of a nested region."""
        members = REGION_STRUCTURES[region]
        return np.isin(labels, [number for number, structure in self.values.items() if structure in members])

    def compose(self, masks: Mapping[Region, NDArray[np.bool_]]) -> NDArray[np.uint8]:
        """A label map (uint8) from nested region masks of equal shape.

        ET where ET, necrosis where TC without ET, edema where WT without TC. Masks that are not
        nested are nested first: ET is cut to TC, TC to WT.
        """
        whole = masks[Region.WT]
        core = masks[Region.TC] & whole
        enhancing = masks[Region.ET] & core
        labels = np.zeros(whole.shape, np.uint8)
        labels[whole] = self.number(Structure.ED)
        labels[core] = self.number(Structure.NCR)
        labels[enhancing] = self.number(Structure.ET)
        return labels

    def convert(self, labels: Array, target: LabelSchema) -> NDArray[np.uint8]:
        """The same structures in another schema's numbers.

        Raises:
            InputError: if a number is unknown here, or a structure present has no number there.
        """
        self.check(labels)
        result = np.zeros(labels.shape, np.uint8)
        for number in present_values(labels):
            result[labels == number] = target.number(self.values[number])
        return result


def _schema(name: str, title: str, *, silent: Iterable[Region] = (), **numbers: Structure) -> LabelSchema:
    values = {int(key[1:]): structure for key, structure in numbers.items()}
    return LabelSchema(name, title, values, frozenset(silent))


SCHEMAS: Mapping[str, LabelSchema] = {
    schema.name: schema
    for schema in (
        _schema("brats2023", "BraTS 2023 GLI, MEN, MET, SSA, PED", _1=_S.NCR, _2=_S.ED, _3=_S.ET),
        _schema("brats2021", "BraTS 2017 to 2022", _1=_S.NCR, _2=_S.ED, _4=_S.ET),
        _schema("brats2024", "BraTS 2024/25 glioma after treatment", _1=_S.NCR, _2=_S.ED, _3=_S.ET, _4=_S.RC),
        _schema("brats2024ped", "BraTS-PED 2024", _1=_S.ET, _2=_S.NET, _3=_S.CC, _4=_S.ED),
        _schema("brats2015", "BraTS 2012 to 2016", _1=_S.NCR, _2=_S.ED, _3=_S.NET, _4=_S.ET),
        _schema("nnunet", "nnU-Net Dataset137 (internal order)", _1=_S.ED, _2=_S.NCR, _3=_S.ET),
        _schema("msd", "Medical Segmentation Decathlon Task01", _1=_S.ED, _2=_S.NET, _3=_S.ET),
        _schema("menrt", "BraTS-MEN-RT 2024", _1=_S.GTV),
        _schema("hdglio", "HD-GLIO", silent=[Region.TC], _1=_S.FA, _2=_S.ET),
        _schema("whole", "mask of the whole tumour (0/1 or 0/255)", _1=_S.TU),
    )
}
"""Every known schema by name (table of sources: ``docs`` of the data sets named in the titles)."""

DEFAULT_SCHEMA = SCHEMAS["brats2023"]


def schema_named(name: str) -> LabelSchema:
    """The schema of that name.

    Raises:
        InputError: naming those that exist.
    """
    try:
        return SCHEMAS[name]
    except KeyError:
        raise InputError(f"there is no label schema {name!r}; choose one of: {', '.join(SCHEMAS)}") from None


def present_values(labels: Array) -> set[int]:
    """Numbers other than 0 in a label map.

    Raises:
        InputError: if a value is not a whole number, for then it is not a label map.
    """
    values = np.unique(labels)
    if not np.isfinite(values).all() or not np.equal(np.round(values), values).all():
        raise InputError("the file holds values that are not whole numbers, so it is an image and not a label map")
    if (values < 0).any():
        raise InputError(f"a label map holds no negative numbers, this one holds {values.min():g}")
    return {int(value) for value in values if value != 0}
