"""A model is a folder: ``model.json`` (the card) and, per stage, weights with their checksums.

Reading a card needs neither torch nor MONAI, so that ``brats-seg models`` answers at once. Weights are
only handed out after their SHA-256 has been compared with the card's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from brats_seg.core.errors import InputError, ModelError, UsageError
from brats_seg.core.labels import SCHEMAS, LabelSchema, Structure
from brats_seg.core.regions import RegionSet
from brats_seg.core.scans import Study
from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.files.output import write_text
from brats_seg.models.card_fields import LISTS, CardFields
from brats_seg.models.checks import check_mapping, check_name, check_plain, check_sequences, check_text, one_line
from brats_seg.models.names import DEFAULT_MODEL
from brats_seg.models.rules import postprocess_from_dict
from brats_seg.models.stage import Arrangement, Member, Stage, stage_from_dict

BUILT_IN = Path(__file__).resolve().parent / "weights"
"""Folder of the models that come with the package."""

CARD = "model.json"
CARD_FORMAT = 2
OPTIONAL = frozenset({"fingerprints", "seen", "subsets"})
"""Keys that a card may lack."""

Scans = TypeVar("Scans", bound=Study | Timepoint)


class ModelCard(CardFields):
    """A card, and what follows from it for a study."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The networks that work together, by member of the ensemble; one where it is none."""
        numbers = sorted({stage.member for stage in self.stages})
        by_key = {(stage.name, stage.member): stage for stage in self.stages}
        return tuple(Member(by_key.get(("coarse", n)), by_key.get(("fine", n))) for n in numbers)

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, of the first member of an ensemble, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def expected_loss(self, present: Sequence[MRSequence]) -> str:
        """What missing sequences cost on studies this model was not trained on, in words; empty if none is missing."""
        missing = [sequence.title for sequence in self.sequences if sequence not in present]
        if not missing:
            return ""
        names = " and ".join(missing)
        keys = ["+".join(s.value for s in self.sequences if s in kept) for kept in (present, self.sequences)]
        if not all(key in self.subsets for key in keys):
            alone = " alone, which is one of a cross-validation" if self.held_out else ""
            return f"how much is lost without {names} was not measured for this model{alone}"
        less, whole = (
            ", ".join(f"{region} {value:.2f}" for region, value in self.subsets[key].items()) for key in keys
        )
        return f"without {names} mean Dice on other studies was {less}; with all sequences {whole}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :func:`card_from_dict`."""
        return {
            "format": CARD_FORMAT,
            **{entry.name: getattr(self, entry.name) for entry in fields(self)},
            "sequences": [sequence.value for sequence in self.sequences],
            "regions": self.regions.to_dict(),
            "schemas": [_plain_schema(schema) for schema in self.schemas],
            "postprocess": self.postprocess.to_dict(),
            "stages": [asdict(stage) for stage in self.stages],
        }

    def looked_at(self, visit: Scans) -> Scans:
        """A visit with the scans the model looks at, and no others.

        Raises:
            InputError: if there is none.
        """
        held: Mapping[MRSequence, Any] = visit.images if isinstance(visit, Study) else visit.files
        seen = {sequence: scan for sequence, scan in held.items() if sequence in self.sequences}
        if len(seen) == len(held):
            return visit
        if not seen:
            names = ", ".join(sequence.title for sequence in self.sequences)
            raise InputError(f"{visit.id} has no scan that model {self.name} looks at ({names})")
        changed: Any = {"images" if isinstance(visit, Study) else "files": seen}
        return replace(visit, **changed)

    def offered(self, criteria: str | None) -> str:
        """The response criteria to judge by.

        Args:
            criteria: what the user asked for; None for the card's first.

        Raises:
            UsageError: if they are not made for such tumours.
        """
        if criteria is None and self.criteria:
            return self.criteria[0]
        if criteria not in self.criteria:
            names = " or ".join(self.criteria) or "no criteria, and follows no course"
            raise UsageError(f"model {self.name} offers {names}" + (f", not {criteria}" if criteria else ""))
        return str(criteria)

    def schema(self, name: str | None) -> LabelSchema:
        """The schema to write a label map in.

        Args:
            name: what the user asked for; None for the card's first.

        Raises:
            UsageError: if the model does not write it.
        """
        for schema in self.schemas:
            if name in (None, schema.name):
                return schema
        names = " or ".join(schema.name for schema in self.schemas)
        raise UsageError(f"label maps of model {self.name} are written as {names}, not {name!r}")

    def arrangement(self, stage: Stage) -> Arrangement:
        """The way to the order of a stage's channels."""
        return Arrangement(stage.layout, tuple(s.value for s in self.sequences), self.regions.names)


def _plain_schema(schema: LabelSchema) -> Any:
    """Its name where it is a known one, else all of it."""
    if SCHEMAS.get(schema.name) == schema:
        return schema.name
    values = {str(number): structure.to_plain() for number, structure in schema.values.items()}
    return {"name": schema.name, "title": schema.title, "values": values}


def _schema_from_plain(value: Any) -> LabelSchema:
    if isinstance(value, str):
        if value not in SCHEMAS:
            raise ModelError(f"schema {value!r} is not known; known: {', '.join(SCHEMAS)}. Or give name, title, values")
        return SCHEMAS[value]
    held = check_mapping(value, "a schema")
    if set(held) != {"name", "title", "values"}:
        raise ModelError("a schema of its own must hold name, title and values")
    check_name(held["name"], "name of a schema")
    check_text(held["title"], "title of a schema")
    values: dict[int, Structure] = {}
    for number, tissue in check_mapping(held["values"], "values of a schema").items():
        if number not in map(str, range(1, 256)):
            raise ModelError(f"schema {held['name']} has the number {number!r}; numbers go from 1 to 255")
        try:
            values[int(number)] = Structure.from_plain(tissue)
        except ValueError as error:
            raise ModelError(f"schema {held['name']}, number {number}: {error}") from error
    if held["name"] in SCHEMAS:
        raise ModelError(f"schema {held['name']} is a known one of other numbers; choose another name")
    return LabelSchema(held["name"], held["title"], values)


def card_from_dict(values: Mapping[str, Any], *, where: str) -> ModelCard:
    """A card from plain values.

    Raises:
        ModelError: if keys are missing or unknown, or the format is of another program version.
    """
    held = dict(values)
    found = held.pop("format", None)
    if found != CARD_FORMAT:
        raise ModelError(
            f"{where} has card format {found}, this program reads format {CARD_FORMAT}; update one of them"
        )
    known = {entry.name for entry in fields(ModelCard)}
    if set(held) - known or known - set(held) - OPTIONAL:
        missing, unknown = sorted(known - set(held) - OPTIONAL), sorted(map(str, set(held) - known))
        raise ModelError(f"{where} is no model card: missing {missing}, unknown {unknown}")
    try:
        check_plain(held, "")
        listed = {key: held.pop(key) for key in ("stages", "schemas")}
        for key, value in listed.items():
            if not isinstance(value, list | tuple):
                raise ModelError(f"{key} must be a list")
        made: dict[str, Any] = {
            **{key: tuple(value) if key in LISTS and isinstance(value, list) else value for key, value in held.items()},
            "postprocess": postprocess_from_dict(held["postprocess"]),
            "sequences": check_sequences(held["sequences"], "sequences"),
            "regions": RegionSet.from_dict(held["regions"]),
            "schemas": tuple(_schema_from_plain(value) for value in listed["schemas"]),
            "stages": tuple(stage_from_dict(check_mapping(stage, "a stage")) for stage in listed["stages"]),
        }
        return ModelCard(**made)
    except (InputError, ModelError, TypeError, ValueError) as error:
        raise ModelError(f"{where} is no model card: {one_line(error)}") from error


_WORDS = frozenset({"title", "colour", "code"})
"""Of a region, what decides no result."""


@dataclass(frozen=True)
class ModelBundle:
    """A model on disk whose card has been read."""

    card: ModelCard
    folder: Path

    @property
    def sha256(self) -> str:
        """One checksum for all that decides a result: weights, the order and axes of their channels, networks and
        stages, preprocessing, post-processing and intervals; not the card's words."""
        card, regions = self.card, self.card.regions.to_dict()["regions"]
        deciding = {
            "stages": [stage.decides() for stage in card.stages],
            "sequences": [sequence.value for sequence in card.sequences],
            "regions": [{key: value for key, value in region.items() if key not in _WORDS} for region in regions],
            "schemas": [_plain_schema(schema) for schema in card.schemas],
            "prepare": card.prepare,
            "postprocess": card.postprocess.to_dict(),
            "intervals": card.intervals,
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=dict).encode()).hexdigest()

    def file(self, stage: Stage, name: str) -> Path:
        """Path of a stage's file, after comparing its checksum with the card's.

        Raises:
            ModelError: if it is missing, cut short or altered.
        """
        path = self.folder / name
        if name not in stage.files:
            raise ModelError(
                f"the card of model {self.card.name} has no checksum for {name}; copy the model folder again"
            )
        try:
            if path.resolve().parent != self.folder.resolve():
                raise ModelError(
                    f"{name} of model {self.card.name} is a link out of its folder; put the file itself there"
                )
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            reason = error.strerror or "cannot be read"
            raise ModelError(
                f"model {self.card.name} lacks {name} ({reason}); install the package or copy the model folder again"
            ) from error
        if found != stage.files[name]:
            raise ModelError(
                f"{name} of model {self.card.name} is damaged or altered: its SHA-256 is {found[:12]}…, the card "
                f"says {stage.files[name][:12]}…. Install the package or copy the model folder again."
            )
        return path


def read_bundle(folder: Path) -> ModelBundle:
    """Read the card of a model folder; its weights are checked when they are used.

    Raises:
        ModelError: if there is no readable card.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{folder} is no model: {CARD} {error.strerror or 'cannot be read'}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} in {folder.name} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} in {folder.name} is no model card")
    return ModelBundle(card_from_dict(values, where=f"{folder.name}/{CARD}"), folder)


def installed_models() -> Iterator[ModelBundle]:
    """Models that come with the package, in order of name."""
    for card in sorted(BUILT_IN.glob(f"*/{CARD}")):
        yield read_bundle(card.parent)


def find_model(name_or_path: str = DEFAULT_MODEL) -> ModelBundle:
    """A model by the name of an installed one, or by the path of its folder.

    Raises:
        ModelError: naming the models that exist.
    """
    built_in = BUILT_IN / name_or_path
    if "/" not in name_or_path and "\\" not in name_or_path and (built_in / CARD).is_file():
        return read_bundle(built_in)
    folder = Path(name_or_path)
    if folder.is_dir():
        return read_bundle(folder)
    names = ", ".join(bundle.card.name for bundle in installed_models()) or "none"
    raise ModelError(f"there is no model {name_or_path!r}; installed: {names}. A folder with {CARD} also works.")


@cache
def regions_of(name_or_path: str = DEFAULT_MODEL) -> RegionSet:
    """The regions of a model: what a label map is asked about that does not say what it draws itself."""
    return find_model(name_or_path).card.regions


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(card: ModelCard, folder: Path) -> None:
    """Write ``model.json`` whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    write_text(folder / CARD, json.dumps(card.to_dict(), indent=1) + "\n")
