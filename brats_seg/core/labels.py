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
from brats_seg.core.volume import Array


class Structure(Enum):
    """One tissue class of a label map; every voxel has at most one."""

    NCR = "necrotic tumour core"
    ED = "peritumoral edema"
    ET = "enhancing tumour"
    NET = "non-enhancing tumour"
    CC = "cystic component"
    RC = "resection cavity"
    GTV = "gross tumour volume"

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
    Region.WT: frozenset({_S.NCR, _S.ED, _S.ET, _S.NET, _S.CC, _S.GTV}),
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
        file_names: whether BraTS file names of that year identify it (see :func:`schema_of_name`).
    """

    name: str
    title: str
    values: Mapping[int, Structure]

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
            known = ", ".join(f"{n} {self.values[n].abbreviation}" for n in sorted(self.values))
            raise InputError(
                f"the label map holds {unknown}, which {self.name} does not know (it knows {known}). "
                f"Pass --schema with one of: {', '.join(SCHEMAS)}."
            )

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


def _schema(name: str, title: str, **numbers: Structure) -> LabelSchema:
    return LabelSchema(name, title, {int(key[1:]): structure for key, structure in numbers.items()})


SCHEMAS: Mapping[str, LabelSchema] = {
    schema.name: schema
    for schema in (
        _schema("brats2023", "BraTS 2023 GLI, MEN, MET, SSA, PED", _1=_S.NCR, _2=_S.ED, _3=_S.ET),
        _schema("brats2021", "BraTS 2017 to 2022", _1=_S.NCR, _2=_S.ED, _4=_S.ET),
        _schema("brats2024", "BraTS 2024/25 glioma after treatment", _1=_S.NCR, _2=_S.ED, _3=_S.ET, _4=_S.RC),
        _schema("brats2024ped", "BraTS-PED 2024", _1=_S.ET, _2=_S.NET, _3=_S.CC, _4=_S.ED),
        _schema("brats2015", "BraTS 2012 to 2016", _1=_S.NCR, _2=_S.ED, _3=_S.NET, _4=_S.ET),
        _schema("msd", "Medical Segmentation Decathlon Task01", _1=_S.ED, _2=_S.NET, _3=_S.ET),
        _schema("nnunet", "nnU-Net Dataset137 (internal order)", _1=_S.ED, _2=_S.NCR, _3=_S.ET),
        _schema("menrt", "BraTS-MEN-RT 2024", _1=_S.GTV),
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


def guess_schema(values: Iterable[int], *, file_name: str = "") -> LabelSchema:
    """The schema of a label map, only where it is certain.

    A BraTS file name of 2017 to 2022 (``BraTS2021_…_seg``) or from 2023 on (``BraTS-GLI-…-seg``) decides if the
    values agree with it; a glioma name of that pattern with a 4 is of 2024. Without such a name, exactly the
    values {1, 2, 4} are of 2017 to 2022, and an empty label map means the same everywhere. Every other
    combination means different things in different years: {2, 4} is edema with enhancing tumour, or edema
    with a resection cavity.

    Args:
        values: the numbers present, without 0.
        file_name: name of the file, without folders.

    Raises:
        InputError: if the schema is not certain, with the choices.
    """
    found = set(values)
    named = schema_of_name(file_name)
    if named is not None and found <= set(named.values):
        return named
    if not found:
        return DEFAULT_SCHEMA
    if file_name.lower().startswith("brats-gli-") and found <= set(SCHEMAS["brats2024"].values):
        return SCHEMAS["brats2024"]
    if found == {1, 2, 4} and not file_name.lower().startswith("brats-"):
        return SCHEMAS["brats2021"]
    shown = "{" + ", ".join(str(value) for value in sorted(found)) + "}"
    fitting = [name for name, schema in SCHEMAS.items() if found <= set(schema.values)]
    raise InputError(
        f"label values {shown} mean different things in different years, and nothing beside the file says which. "
        f"Pass --schema with one of: {', '.join(fitting) or 'none fits: ' + ', '.join(SCHEMAS)}."
    )


def schema_of_name(file_name: str) -> LabelSchema | None:
    """The schema a BraTS file name stands for, or None.

    Names of 2023 hold the task (``BraTS-GLI-00000-000-seg``). The post-treatment task of 2024 uses the same
    pattern with timepoints from 100 on, and its label 4 shows in the values, so a name alone never yields it.
    """
    lowered = file_name.lower()
    if lowered.startswith("brats-men-rt-"):
        return SCHEMAS["menrt"]
    if lowered.startswith(("brats-gli-", "brats-men-", "brats-met-", "brats-ssa-")):
        return SCHEMAS["brats2023"]
    if lowered.startswith(("brats17_", "brats18_", "brats19_", "brats20_", "brats2021_", "brats21_")):
        return SCHEMAS["brats2021"]
    return None
