"""What a label map means: tissues, regions made of them, and the numbers that stand for them.

The number 4 means enhancing tumour, resection cavity or edema depending on the file, so numbers are read through a
:class:`LabelSchema` and written through one; nothing else in the project knows them. The command line names tissues
and schemas before it knows whether there is anything to do, so NumPy is loaded by the first look into an array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from brats_seg.core.errors import InputError
from brats_seg.core.study import MRSequence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from brats_seg.core.grid import Array

SKY_BLUE = "#56B4E9"
YELLOW = "#F0E442"
VERMILLION = "#D55E00"
ORANGE = "#E69F00"
BLUISH_GREEN = "#009E73"
REDDISH_PURPLE = "#CC79A7"
BLUE = "#0072B2"
"""Okabe and Ito, "Color Universal Design" (2008): told apart with any common form of colour blindness."""


@dataclass(frozen=True)
class Structure:
    """One tissue class of a label map; every voxel has at most one. A card may have tissues of its own.

    Attributes:
        name: short, for tables and files, for example ``NCR``.
        colour: ``#RRGGBB`` for pictures, and for the ``color`` column of a BIDS ``dseg.tsv``.
        holds: other tissues that it may consist of, where a schema does not divide them.

    Raises:
        ValueError: if a value makes no sense, naming it.
    """

    NCR: ClassVar[Structure]
    ED: ClassVar[Structure]
    ET: ClassVar[Structure]
    NET: ClassVar[Structure]
    CC: ClassVar[Structure]
    RC: ClassVar[Structure]
    GTV: ClassVar[Structure]
    FA: ClassVar[Structure]
    TU: ClassVar[Structure]

    name: str
    title: str
    colour: str
    holds: frozenset[Structure] = frozenset()

    def __post_init__(self) -> None:
        _check_words(self, "a tissue")

    def to_plain(self) -> Any:
        """Its name where it is a known one, else all of it; inverse of :meth:`from_plain`."""
        if STRUCTURES.get(self.name) == self:
            return self.name
        return {"name": self.name, "title": self.title, "colour": self.colour}

    @classmethod
    def from_plain(cls, value: Any) -> Structure:
        """A known tissue by its name, or one of a card's own.

        Raises:
            ValueError: if it is neither.
        """
        if isinstance(value, Mapping) and set(value) == {"name", "title", "colour"}:
            if value["name"] in STRUCTURES:
                raise ValueError(f"tissue {value['name']} is a known one; write its name alone, or choose another")
            return cls(**value)
        if not isinstance(value, str) or value not in STRUCTURES:
            raise ValueError(
                f"tissue {value!r} is not known; known: {', '.join(STRUCTURES)}. Or give name, title, colour"
            )
        return STRUCTURES[value]


def _check_words(named: Structure | Region, what: str) -> None:
    """Refuse a name, title or colour that no table or picture can show."""
    if not isinstance(named.name, str) or not _NAME.fullmatch(named.name):
        raise ValueError(f"name {named.name!r} of {what} must be a letter and at most 15 letters and digits more")
    if not isinstance(named.title, str) or not named.title.strip() or not named.title.isprintable():
        raise ValueError(f"title {named.title!r} of {named.name} must be printable text")
    if not isinstance(named.colour, str) or not _COLOUR.fullmatch(named.colour):
        raise ValueError(f"colour {named.colour!r} of {named.name} must be #RRGGBB")


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")

STRUCTURES: dict[str, Structure] = {}
"""The tissues of public data sets by name."""


def _known(**tissues: tuple[Any, ...]) -> None:
    """Tissues by name: title, colour, and what they may consist of."""
    for name, (title, colour, *holds) in tissues.items():
        STRUCTURES[name] = Structure(name, title, colour, frozenset(holds))
        setattr(Structure, name, STRUCTURES[name])


_S = Structure
_known(
    NCR=("necrotic tumour core", YELLOW),
    ED=("peritumoral edema", SKY_BLUE),
    ET=("enhancing tumour", VERMILLION),
    NET=("non-enhancing tumour", ORANGE),
    CC=("cystic component", BLUISH_GREEN),
    RC=("resection cavity", REDDISH_PURPLE),
)
_known(
    GTV=("gross tumour volume", BLUE, _S.NCR, _S.ET, _S.NET, _S.CC),
    FA=("T2/FLAIR abnormality", SKY_BLUE, _S.NCR, _S.ED, _S.NET, _S.CC),
)
_known(TU=("tumour, not divided", SKY_BLUE, _S.NCR, _S.ED, _S.ET, _S.NET, _S.CC, _S.GTV, _S.FA))

CAVITY = Structure.RC
"""Is no tumour and has lesions of its own in tables and pictures."""
FLUID = frozenset({Structure.RC, Structure.CC})
"""What diameters must not cross: RANO measures neither cysts nor resection cavities (Wen 2010)."""

COMPARTMENTS = ("enhancing", "non_enhancing")
"""What response criteria judge: contrast enhancement, and T2/FLAIR disease."""


@dataclass(frozen=True)
class Region:
    """One mask that a model draws.

    Attributes:
        name: short, for tables and files, for example ``WT``.
        structures: tissues it consists of; of those that no region inside it has, the usual one first.
        colour: ``#RRGGBB`` of its outline.
        code: SNOMED CT; empty for none.
        inside: name of the region that contains it; empty for none.
        compartment: as what response criteria follow its lesions, one of :data:`COMPARTMENTS`; empty for not at all.
        shown_by: sequences of which at least one has to be there for it to be seen, the best first; without them it is
            an estimate. Empty where nothing is known of that.

    Raises:
        ValueError: if a value makes no sense, naming it.
    """

    name: str
    title: str
    structures: tuple[Structure, ...]
    colour: str
    code: str = ""
    inside: str = ""
    compartment: str = ""
    shown_by: tuple[MRSequence, ...] = ()

    def __post_init__(self) -> None:
        _check_words(self, "a region")
        if not self.structures:
            raise ValueError(f"region {self.name} consists of no structure; name one or more")
        if not isinstance(self.code, str) or (self.code and not self.code.isalnum()):
            raise ValueError(f"code {self.code!r} of region {self.name} must be a SNOMED CT code in quotes")
        if not isinstance(self.inside, str):
            raise ValueError(f"inside {self.inside!r} of region {self.name} must be the name of a region")
        if self.compartment not in ("", *COMPARTMENTS):
            raise ValueError(
                f"compartment {self.compartment!r} of region {self.name} must be {' or '.join(COMPARTMENTS)}, or be "
                "left out"
            )

    def lacks(self, missing: Sequence[MRSequence]) -> str:
        """The sequences it cannot be seen without, where all of them are missing: ``T2 and FLAIR``; else empty."""
        if not self.shown_by or not set(self.shown_by) <= set(missing):
            return ""
        return " and ".join(sequence.title for sequence in MRSequence if sequence in self.shown_by)


@dataclass(frozen=True)
class LabelSchema:
    """The meaning of the numbers in one family of label maps.

    Attributes:
        name: as typed on the command line, for example ``brats2023``.
        values: number to structure; 0 is always background.
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
            if candidate == structure:
                return number
        raise InputError(f"label schema {self.name} has no number for {structure.title}")

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
        return ", ".join(f"{number} {self.values[number].name}" for number in sorted(self.values))

    def structure_mask(self, labels: Array, structure: Structure) -> NDArray[np.bool_]:
        """Boolean mask of one structure; all False if the schema has no such structure."""
        return self._holding(labels, (structure,))

    def region_mask(self, labels: Array, region: Region) -> NDArray[np.bool_]:
        """Boolean mask of a region."""
        return self._holding(labels, region.structures)

    def _holding(self, labels: Array, structures: Sequence[Structure]) -> NDArray[np.bool_]:
        import numpy as np  # noqa: PLC0415 - heavy

        return np.isin(labels, [number for number, structure in self.values.items() if structure in structures])

    def tumour_mask(self, labels: Array) -> NDArray[np.bool_]:
        """Boolean mask of everything but resection cavities."""
        mask: NDArray[np.bool_] = (labels != 0) & ~self.structure_mask(labels, CAVITY)
        return mask

    def convert(self, labels: Array, target: LabelSchema) -> NDArray[np.uint8]:
        """The same structures in another schema's numbers.

        Raises:
            InputError: if a number is unknown here, or a structure present has no number there.
        """
        import numpy as np  # noqa: PLC0415 - heavy

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
        _schema("nnunet", "nnU-Net Dataset137 (internal order)", _1=_S.ED, _2=_S.NCR, _3=_S.ET),
        _schema("msd", "Medical Segmentation Decathlon Task01", _1=_S.ED, _2=_S.NET, _3=_S.ET),
        _schema("menrt", "BraTS-MEN-RT 2024", _1=_S.GTV),
        _schema("hdglio", "HD-GLIO", _1=_S.FA, _2=_S.ET),
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
    import numpy as np  # noqa: PLC0415 - heavy

    values = np.unique(labels[labels != 0])  # most voxels hold 0, and sorting takes longest
    if not np.isfinite(values).all() or not np.equal(np.round(values), values).all():
        raise InputError("the file holds values that are not whole numbers, so it is an image and not a label map")
    if (values < 0).any():
        raise InputError(f"a label map holds no negative numbers, this one holds {values.min():g}")
    return {int(value) for value in values}
