"""What the numbers of a label map mean, told by its values and by where each label lies; never by a guess.

The same numbers mean different tissues in different years. Edema lies outside the core of a tumour, and enhancement
is a rim around necrosis: both can be measured, and both rule schemas out. What stays possible after that is decided
by the name of the file if that is of a BraTS year, and else has to be asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Array
from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS, STRUCTURES, LabelSchema, Structure, present_values
from brats_seg.core.regions import RegionSet

OUTER_SHARE = 0.7
"""Least share of the tumour's surface that the label outside makes up."""
OUTER_MARGIN = 0.2
"""How much more of the directions from every other label lead through the label outside than the other way round.
With both, edema is the label outside in 312 of 357 expert maps of BraTS 2018 to 2023, and no other label in any."""
RIM_AROUND = 0.9
"""Least share of the directions from necrosis that lead through a rim of enhancement."""
RIM_MARGIN = 0.15
"""How much more that is than the other way round."""
RIM_INSIDE = 0.2
"""Least share of the directions from a rim that lead through what it holds; a cavity beside a little necrosis has
less (0.04 and 0.09 in two treated patients)."""
DOUBT_MARGIN = 0.1
"""How much more of the surface than edema another label makes up where its schema is doubted."""
LEAST_VOXELS = 50
"""Labels with fewer voxels have no shape."""

_CORE = (Structure.NCR, Structure.NET)
_EDEMA = (Structure.ED, Structure.FA)
_GTV = re.compile(r"[_-]gtv\.nii(?:\.gz)?$")


@dataclass(frozen=True)
class LabelMeaning:
    """What the numbers of one label map can mean.

    Attributes:
        values: numbers present, without 0.
        possible: schemas that fit values, shape and name, the likeliest first; empty where none does.
        regions: that are asked about.
        why: what decided, in words.
        doubt: what to know before its numbers are used; empty where nothing.
        is_named: whether the file names its tissues, so that its numbers say nothing.
    """

    values: frozenset[int]
    possible: tuple[LabelSchema, ...]
    regions: RegionSet
    why: str
    doubt: str = ""
    is_named: bool = False

    @property
    def is_certain(self) -> bool:
        """Whether all that is possible comes to the same regions."""
        return bool(self.possible) and len({self.regions_told(s) for s in self.possible}) == 1

    def regions_told(self, schema: LabelSchema) -> frozenset[tuple[int, str]]:
        """Which of its numbers lies in which region by a schema, and, as of number 0, which regions it tells."""
        told = self.regions.told_by(schema)
        members = {(n, r.name) for n in self.values for r in told if schema.values.get(n) in r.structures}
        return frozenset(members | {(0, region.name) for region in told})

    @property
    def schema(self) -> LabelSchema:
        """The one schema.

        Raises:
            InputError: if it is not certain, with the choices.
        """
        if self.is_certain:
            return self.possible[0]
        raise self.question()

    def question(self) -> InputError:
        """What is asked where the meaning is not certain."""
        shown = f"{{{', '.join(map(str, sorted(self.values)))}}}"
        fitting = [schema for schema in SCHEMAS.values() if self.values <= set(schema.values)]
        if len(self.values) == 1:
            return InputError(
                f"the label map holds nothing but 0 and {next(iter(self.values))}: it looks like a mask of one whole "
                f"region, and nothing beside the file says of which. {_BESIDE} "
                f"Pass --schema whole if it is the whole tumour{_or_tissue(fitting)}."
            )
        if self.possible:
            return InputError(
                f"label values {shown} mean different things in different years, and nothing beside the file says "
                f"which ({self.why}). {_BESIDE} Pass --schema with one of: {_with_numbers(self.possible)}."
            )
        insist = f" If you know better, pass --schema with one of: {_with_numbers(fitting)}." if fitting else ""
        return InputError(
            f"label values {shown} fit no schema ({self.why}). Write its numbers anew, as in brats2023 "
            f"({SCHEMAS['brats2023'].numbers}), or name them beside it, in ID_dseg.json.{insist}"
        )


def meaning_of(labels: Array, regions: RegionSet, *, file_name: str = "") -> LabelMeaning:
    """What the numbers of a label map can mean.

    Args:
        labels: ``(X, Y, Z)``, whole numbers.
        regions: that are asked about; schemas that come to the same ones mean the same.
        file_name: name of the file, without folders.

    Raises:
        InputError: if it is no label map.
    """
    values = frozenset(present_values(labels))
    if not values:
        return LabelMeaning(
            values, (SCHEMAS["brats2023"],), regions, "it is empty, which means the same in every schema"
        )
    named = schemas_of_name(file_name)
    if len(values) == 1:
        # A single tissue of several is rarer than a mask of all of them, so only a name for masks decides.
        masks = tuple(schema for schema in named if values == set(schema.values))
        return LabelMeaning(
            values, masks, regions, "its name says so" if masks else "one label has no shape to tell it by"
        )
    shape = Shape.of(labels, values)
    possible = shape.possible(schema for schema in SCHEMAS.values() if values <= set(schema.values))
    by_name = tuple(schema for schema in possible if schema in named)
    # Names of BraTS are those of gliomas of adults, whatever their numbers.
    adult = tuple(schema for schema in possible if schema.name != "brats2024ped")
    if not named or by_name:
        meaning = LabelMeaning(values, possible, regions, shape.words)
        if meaning.is_certain or not by_name:
            return meaning
        doubt = shape.doubt(by_name[0])
        if doubt and any(not shape.doubt(schema) for schema in possible):
            return LabelMeaning(values, possible, regions, doubt)
        why = f"its name says so, where its values leave {_names(possible)} open"
        if not doubt and len({_edema_of(schema) for schema in adult}) > 1:
            # A conversion to other numbers keeps the name.
            doubt = f"read as {by_name[0].name} by its name alone: values and places leave {_names(adult)} open"
        return LabelMeaning(values, by_name, regions, why, doubt)
    doubt = f"its name is one of {named[0].title}, but {shape.words}: read as {adult[0].name}" if adult else ""
    return LabelMeaning(values, adult, regions, shape.words, doubt)


def certain_meaning(
    labels: Array, schema: LabelSchema, regions: RegionSet, why: str, *, is_named: bool = False
) -> LabelMeaning:
    """The meaning of a label map whose schema is told, and what in its shape speaks against that."""
    values = frozenset(present_values(labels))
    doubt = Shape.of(labels, values & set(schema.values)).doubt(schema)
    return LabelMeaning(values, (schema,), regions, why, doubt, is_named)


def shared_meaning(meanings: Mapping[str, LabelMeaning]) -> LabelSchema:
    """The one schema of several label maps, by name of each, where together they leave no other.

    Raises:
        InputError: if they do not, with the choices.
    """
    filled = {name: meaning for name, meaning in meanings.items() if meaning.values}
    if not filled:
        return next((meaning.possible[0] for meaning in meanings.values() if meaning.possible), DEFAULT_SCHEMA)
    values = frozenset(value for meaning in filled.values() for value in meaning.values)
    first, *others = filled.values()
    common = tuple(s for s in _widened(first, values) if all(s in _widened(other, values) for other in others))
    together = LabelMeaning(values, common, first.regions, "all label maps together")
    if together.is_certain:
        return common[0]
    for name, meaning in filled.items():
        if not meaning.possible:
            raise InputError(f"{name}: {meaning.question().words}")
    if common:
        return together.schema
    if all(meaning.is_named for meaning in filled.values()):
        raise _of_other_tissues({name: frozenset(meaning.possible[0].structures) for name, meaning in filled.items()})
    parts = "; ".join(f"{name} {_names(meaning.possible)}" for name, meaning in filled.items())
    raise InputError(
        f"the label maps do not follow one schema ({parts}), so their regions cannot be compared. Write them with the "
        "same numbers. If one schema holds for all, pass --schema."
    )


def _of_other_tissues(tissues: Mapping[str, frozenset[Structure]]) -> InputError:
    """What is asked where segmentations name their tissues, by name of each, and not the same ones."""
    every = frozenset[Structure]().union(*tissues.values())
    lacking = {name: [s.title for s in STRUCTURES.values() if s in every - own] for name, own in tissues.items()}
    parts = "; ".join(f"{name} has no segment of {', '.join(titles)}" for name, titles in lacking.items() if titles)
    known = next((schema.name for schema in SCHEMAS.values() if every <= set(schema.structures)), "")
    advice = f"If there was none of it, pass --schema {known}." if known else "Draw the same tissues in each."
    return InputError(f"the segmentations name other tissues ({parts}), so it is open what has changed. {advice}")


def _widened(meaning: LabelMeaning, values: frozenset[int]) -> tuple[LabelSchema, ...]:
    """Schemas that know all ``values`` and mean the same as a possible one by those present here."""
    told = meaning.regions_told
    said = {told(schema) for schema in meaning.possible}
    candidates = (*SCHEMAS.values(), *(schema for schema in meaning.possible if schema.name not in SCHEMAS))
    return tuple(s for s in candidates if values <= set(s.values) and told(s) in said)


@dataclass(frozen=True)
class Shape:
    """Where the labels of a map lie.

    Attributes:
        surface: share of the tumour's surface by label, of the labels that are large enough to have a shape.
        outer: the label that lies outside all others; None where none clearly does.
        rim: ``(inside, around)`` of a label that is a rim around another; None where there is none.
        is_thin: whether the rim is a shell about what it holds; a solid label beside another is none.
    """

    surface: Mapping[int, float]
    outer: int | None = None
    rim: tuple[int, int] | None = None
    is_thin: bool = False

    @classmethod
    def of(cls, labels: Array, values: Iterable[int]) -> Shape:
        """The shape of a label map ``(X, Y, Z)`` with these numbers."""
        box = _cropped(labels)
        large = [value for value in sorted(values) if np.count_nonzero(box == value) >= LEAST_VOXELS]
        surface = _surface(box, large)
        if len(large) < 2:
            return cls(surface)
        around = _around(box, large)
        outside = [
            value
            for value in large
            if surface[value] >= OUTER_SHARE
            and all(around[o, value] - around[value, o] >= OUTER_MARGIN for o in large if o != value)
        ]
        outer = outside[0] if outside else None
        rims = [
            pair
            for pair, share in around.items()
            if outer not in pair and share >= RIM_AROUND and share - around[pair[1], pair[0]] >= RIM_MARGIN
        ]
        if outer is None or len(rims) != 1:
            return cls(surface, outer)
        inside, rim = rims[0]
        return cls(surface, outer, (inside, rim), around[rim, inside] >= RIM_INSIDE)

    def possible(self, schemas: Iterable[LabelSchema]) -> tuple[LabelSchema, ...]:
        """Those of the schemas that the shape does not rule out."""
        left = tuple(schema for schema in schemas if self._edema_fits(schema))
        ringed = tuple(schema for schema in left if self._is_enhancing_rim(schema))
        if not ringed or self.rim is None:
            return left
        beside = set(self.surface) - {self.outer, *self.rim}
        if any(schema.values.get(number) == Structure.ET for schema in left for number in beside):
            return left
        cavity = () if self.is_thin else tuple(s for s in left if s.values.get(self.rim[1]) == Structure.RC)
        return ringed + cavity

    def doubt(self, schema: LabelSchema) -> str:
        """What speaks against a schema, in words; empty where nothing does."""
        edema = [number for number in self.surface if schema.values.get(number) in _EDEMA]
        most = max(self.surface, key=lambda number: self.surface[number], default=0)
        if not edema or self.surface[most] - sum(self.surface[number] for number in edema) < DOUBT_MARGIN:
            return ""
        return (
            f"{most} makes up most of the tumour's surface, where edema is expected, and {schema.name} has "
            f"{schema.values[most].name} there ({schema.numbers}): look at the label map"
        )

    @property
    def words(self) -> str:
        """For messages."""
        if self.outer is None:
            return "the places of the labels do not tell"
        said = f"{self.outer} lies outside, as edema does"
        return f"{said}, and {self.rim[1]} is a rim around {self.rim[0]}" if self.rim and self.is_thin else said

    def _edema_fits(self, schema: LabelSchema) -> bool:
        edema = [number for number in self.surface if schema.values.get(number) in _EDEMA]
        return self.outer is None or not edema or self.outer in edema

    def _is_enhancing_rim(self, schema: LabelSchema) -> bool:
        inside, around = (schema.values.get(number) for number in self.rim or (0, 0))
        return around == Structure.ET and inside in _CORE


def schemas_of_name(file_name: str) -> tuple[LabelSchema, ...]:
    """The schemas a BraTS file name stands for, the likeliest first; none where it says nothing.

    Names of 2023 hold the task (``BraTS-GLI-00000-000-seg``); the post-treatment task of 2024 uses the same pattern.
    """
    lowered = file_name.lower()
    if lowered.startswith("brats-men-rt-") or _GTV.search(lowered):
        names = ["menrt"]
    elif lowered.startswith("brats-gli-"):
        names = ["brats2023", "brats2024"]
    elif lowered.startswith(("brats-men-", "brats-met-", "brats-ssa-")):
        names = ["brats2023"]
    elif lowered.startswith(("brats17_", "brats18_", "brats19_", "brats20_", "brats2021_", "brats21_")):
        names = ["brats2021"]
    else:
        names = []
    return tuple(SCHEMAS[name] for name in names)


def _edema_of(schema: LabelSchema) -> int | None:
    """The number that stands for edema."""
    return next((number for number, structure in schema.values.items() if structure in _EDEMA), None)


def _cropped(labels: Array) -> Array:
    spans = []
    for axis in range(3):
        seen = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(int(seen[0]), int(seen[-1]) + 1) if seen.size else slice(0, 1))
    return labels[tuple(spans)]


def _around(box: Array, values: Sequence[int]) -> dict[tuple[int, int], float]:
    """By pair of labels, the mean share of the six axis directions from voxels of the first that meet the second."""
    masks = {value: box == value for value in values}
    met = {value: np.zeros(box.shape, np.uint8) for value in values}
    for value, mask in masks.items():
        for axis, length in enumerate(box.shape):
            there, place = mask.any(axis, keepdims=True), np.arange(length).reshape(-1, *[1] * (2 - axis))
            last = length - 1 - np.flip(mask, axis).argmax(axis, keepdims=True)
            met[value] += place >= np.where(there, mask.argmax(axis, keepdims=True), length)
            met[value] += place <= np.where(there, last, -1)
    return {(a, b): float(met[b][masks[a]].mean()) / 6 for a in values for b in values if a != b}


def _surface(box: Array, values: Sequence[int]) -> dict[int, float]:
    """Share of each label in the voxel faces between the labels and the background."""
    padded = np.pad(box, 1)
    edges = []
    for axis in range(3):
        layers = np.moveaxis(padded, axis, 0)
        for near, far in ((layers[:-1], layers[1:]), (layers[1:], layers[:-1])):
            edges.append(near[(far == 0) & (near != 0)])
    counts = np.bincount(np.concatenate(edges), minlength=max(values, default=0) + 1)
    total = max(int(counts[list(values)].sum()), 1)
    return {value: int(counts[value]) / total for value in values}


_BESIDE = 'Say it beside the file, in ID_dseg.json: {"LabelSchema": "NAME"}.'


def _or_tissue(schemas: Sequence[LabelSchema]) -> str:
    names = [schema.name for schema in schemas if schema.name != "whole"]
    return f", or, if it is one tissue of several, one of: {', '.join(names)}" if names else ""


def _names(schemas: Iterable[LabelSchema]) -> str:
    return ", ".join(schema.name for schema in schemas)


def _with_numbers(schemas: Iterable[LabelSchema]) -> str:
    return "; ".join(f"{schema.name} ({schema.numbers})" for schema in schemas)
