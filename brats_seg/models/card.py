"""A model is a folder: ``model.json`` (the card) and, per stage, weights with their checksums.

Reading a card needs neither torch nor MONAI, so that ``brats-seg models`` answers at once. Weights are
only handed out after their SHA-256 has been compared with the card's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from brats_seg.core.errors import ModelError
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.checks import (
    check_files,
    check_fingerprints,
    check_mapping,
    check_name,
    check_number,
    check_plain,
    check_scores,
    check_text,
    check_texts,
    one_line,
    whole_factor,
)
from brats_seg.models.layout import REGION_NAMES, SEQUENCE_NAMES, Layout
from brats_seg.networks.registry import ARCHITECTURES, ATTENTION_UNET, NetworkConfig, network_config
from brats_seg.volumetrics.intervals import IntervalModel

BUILT_IN = Path(__file__).resolve().parent / "weights"
"""Folder of the models that come with the package."""

DEFAULT_MODEL = "glioma"
CARD = "model.json"
MAX_HEAD_ML = 3000.0
"""No head holds more."""
CARD_FORMAT = 1
OPTIONAL = frozenset({"fingerprints", "seen", "subsets"})
"""Keys that a card may lack."""
LISTS = ("held_out", "limits", "citations", "seen")
"""Keys that list texts."""

INPUT_CHANNELS = (len(SEQUENCE_NAMES), len(SEQUENCE_NAMES) + len(REGION_NAMES))
"""Of a network: the sequences, and with the regions of a coarse stage behind them."""

PREPARED_DIVISOR = 32
"""What prepared studies are padded to a multiple of, unless a model's card says otherwise."""

MAX_POOLING = 8
"""Largest step from the spacing of prepared studies to that of a network."""

MIN_SPACING_MM, MAX_SPACING_MM = 0.1, 32.0
MAX_DIVISOR = 512
MAX_MEMBERS = 100


@dataclass(frozen=True)
class Stage:
    """One network of a model.

    Attributes:
        name: ``coarse`` (whole brain) or ``fine`` (around the tumour).
        spacing_mm: voxel size it works at.
        network: keys of its network configuration.
        files: file name to SHA-256: the network (``.onnx``), or its weights alone as training writes them
            (``.safetensors``).
        architecture: which network it is.
        layout: order of its channels and direction of its axes.
        member: of an ensemble, from 1; a fine stage hears the coarse stage of its own member.

    Raises:
        ModelError: if a value is of the wrong kind, a file could lie outside the model's folder, or the keys make no
            network.
    """

    name: str
    spacing_mm: float
    network: Mapping[str, Any]
    files: Mapping[str, str]
    architecture: str = ATTENTION_UNET
    layout: Layout = field(default_factory=Layout)
    member: int = 1

    def __post_init__(self) -> None:
        check_name(self.name, "name of a stage")
        check_number(self.member, f"member of stage {self.name}", low=1, high=MAX_MEMBERS, whole=True)
        check_number(self.spacing_mm, f"spacing_mm of stage {self.name}", low=MIN_SPACING_MM, high=MAX_SPACING_MM)
        check_files(self.files, f"stage {self.name}")
        if self.architecture not in ARCHITECTURES:
            raise ModelError(f"architecture {self.architecture!r} is unknown; known: {', '.join(ARCHITECTURES)}")
        try:
            shape = self.shape
        except (TypeError, ValueError, AttributeError) as error:  # from a file a value can be of any type
            raise ModelError(f"stage {self.name} describes no network: {error}") from error
        if shape.in_channels not in INPUT_CHANNELS or shape.out_channels != len(REGION_NAMES):
            raise ModelError(
                f"the network of stage {self.name} takes {shape.in_channels} channels and gives {shape.out_channels}; "
                f"it has to take {INPUT_CHANNELS[0]}, the sequences, or {INPUT_CHANNELS[1]}, with what a coarse stage "
                f"gives, and to give the {len(REGION_NAMES)} regions"
            )

    @property
    def shape(self) -> NetworkConfig:
        """The network's configuration, with what its keys leave to the defaults."""
        return network_config(self.architecture, self.network)

    def decides(self) -> dict[str, Any]:
        """Everything of the stage that decides what its network gives, as plain values."""
        return {
            "name": self.name,
            "member": self.member,
            "spacing_mm": float(self.spacing_mm),
            "architecture": self.architecture,
            "network": self.shape.to_dict(),
            "layout": asdict(self.layout),
            "files": dict(sorted(self.files.items())),
        }

    @property
    def key(self) -> str:
        """What tells it from a model's other stages, and its files are called: ``coarse``, ``fine``, ``coarse2`` …"""
        return self.name if self.member == 1 else f"{self.name}{self.member}"

    @property
    def weights(self) -> str:
        """Name of the file that holds the network's weights.

        Raises:
            ModelError: if the card names none.
        """
        for name in self.files:
            if name.endswith((".onnx", ".safetensors")):
                return name
        raise ModelError(f"stage {self.key} of the model card names no weights (*.onnx); copy the model again")

    @property
    def hears_coarse(self) -> bool:
        """Whether the coarse stage's probabilities are inputs behind the sequences."""
        return self.shape.in_channels > len(SEQUENCES)

    @property
    def divisor(self) -> int:
        """Every side of the network's input must be a multiple of this."""
        return self.shape.divisor

    @property
    def relative_memory(self) -> float:
        """Memory of one pass per voxel, as a multiple of the shipped network's."""
        return self.shape.relative_memory


@dataclass(frozen=True)
class PostprocessConfig:
    """How probabilities become a label map; fitted on training studies and kept in the card.

    Attributes:
        thresholds: probability from which a voxel belongs to WT, TC, ET.
        temperature: by which the log-odds of WT, TC, ET are divided, so that probabilities mean what they say.
        fine_weight: share of the fine stage in the mean of both stages, around the tumour.
        roi_threshold: coarse WT probability from which the fine stage looks closer.
        roi_margin_mm: margin around that.
        min_core_probability: a component of WT that reaches this probability of TC is half believed, from one half more
            on altogether.
        min_coreless_ml: a component of WT of this size is half believed without a core; 0 doubts none.
        min_enhancing_ml: ET of this size is half believed, from twice as much on altogether; 0 doubts none.
        enhancement_rise: up to where and from where on what is called enhancing is doubted altogether and not at all,
            by how much more it rises from T1 to T1CE than the rest of the tumour
            (:func:`~brats_seg.segment.enhancement.risen`); None doubts none.

    Raises:
        ModelError: if a value makes no sense, naming it.
    """

    thresholds: tuple[float, float, float] = (0.5, 0.5, 0.5)
    temperature: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fine_weight: float = 0.5
    roi_threshold: float = 0.2
    roi_margin_mm: float = 12.0
    min_core_probability: float = 0.5
    min_coreless_ml: float = 0.5
    min_enhancing_ml: float = 0.0
    enhancement_rise: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_several(self.thresholds, "thresholds", 3, low=0.01, high=0.99)
        _check_several(self.temperature, "temperature", 3, low=0.01, high=100)
        for name, high in (
            ("fine_weight", 1),
            ("roi_threshold", 1),
            ("min_core_probability", 1),
            ("roi_margin_mm", 300),
        ):
            check_number(getattr(self, name), name, low=0, high=high)
        for name in ("min_coreless_ml", "min_enhancing_ml"):
            check_number(getattr(self, name), name, low=0, high=MAX_HEAD_ML)
        if self.enhancement_rise is not None:
            _check_several(self.enhancement_rise, "enhancement_rise", 2, low=-100, high=100)
            if self.enhancement_rise[0] >= self.enhancement_rise[1]:
                raise ModelError(f"enhancement_rise {self.enhancement_rise} must be two numbers that rise")


def _check_several(values: Any, what: str, count: int, *, low: float, high: float) -> None:
    """Refuse what are not so many numbers from ``low`` to ``high``."""
    if not isinstance(values, tuple) or len(values) != count:
        raise ModelError(f"{what} {values!r} must be a list of {count} numbers")
    for value in values:
        check_number(value, f"each of {what}", low=low, high=high)


class Member(NamedTuple):
    """Stages that work together; all members of an ensemble have the same ones."""

    coarse: Stage | None
    fine: Stage | None


@dataclass(frozen=True)
class ModelCard:
    """What a model is, was trained on, and can be expected to do.

    Attributes:
        name: as typed on the command line.
        version: of the weights.
        description: one sentence.
        licence: of the weights.
        trained_on: data and split, in words.
        knows_treated_brains: whether scans after surgery or radiotherapy were among those it was trained on.
        held_out: names of studies kept out of training.
        limits: what it was not made for, in words.
        citations: to be named when it is used.
        accuracy: figures on studies it was not trained on, with how they were measured.
        prepare: keys of the preprocessing it needs.
        postprocess: how its probabilities become labels.
        intervals: keys of the volume intervals, or None where none were fitted.
        stages: its networks, coarse first; of an ensemble, member after member.
        seen: ids of the studies it was trained on, so that nobody measures its accuracy on them.
        fingerprints: of the heads of these studies, by sequence, so that a study is known again by its scans whatever
            it is called; hashes, from which no picture can be made.
        subsets: sequences such as ``t1+t2+flair`` to mean Dice by region on studies it was not trained on.
    """

    name: str
    version: str
    description: str
    licence: str
    trained_on: str
    knows_treated_brains: bool
    held_out: tuple[str, ...]
    limits: tuple[str, ...]
    citations: tuple[str, ...]
    accuracy: Mapping[str, Any]
    prepare: Mapping[str, Any]
    postprocess: PostprocessConfig
    intervals: Mapping[str, Any] | None
    stages: tuple[Stage, ...] = field(default_factory=tuple)
    seen: tuple[str, ...] = ()
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    subsets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version", spaces=True)
        for key in ("description", "licence", "trained_on"):
            check_text(getattr(self, key), key)
        for key in LISTS:
            check_texts(getattr(self, key), key)
        for key in ("accuracy", "prepare", "intervals"):
            if getattr(self, key) is not None or key != "intervals":
                check_plain(check_mapping(getattr(self, key), key), key)
        check_scores(self.subsets, "subsets")
        check_fingerprints(self.fingerprints, "fingerprints", self.seen)
        if not isinstance(self.knows_treated_brains, bool):
            raise ModelError(f"knows_treated_brains {self.knows_treated_brains!r} must be true or false")
        if self.intervals is not None:
            IntervalModel.from_dict(self.intervals)
        self._check_stages()

    def _check_stages(self) -> None:
        """Refuse stages that cannot work together, or not on what is prepared for them."""
        first = [stage.name for stage in self.stages if stage.member == 1]
        if first not in (["coarse"], ["coarse", "fine"], ["fine"]):
            raise ModelError(f"model {self.name} has stages {first}; known: coarse, fine")
        wanted = [(name, 1 + n // len(first)) for n, name in enumerate(first * (len(self.stages) // len(first)))]
        if [(stage.name, stage.member) for stage in self.stages] != wanted:
            raise ModelError(
                f"model {self.name} has stages {[stage.key for stage in self.stages]}; every member of an ensemble "
                f"needs the stages of the first, {first}"
            )
        if self.stages[0].hears_coarse:
            raise ModelError(
                f"stage {self.stages[0].name} of model {self.name} hears a coarse stage, and none is before it"
            )
        prepared_mm, sides = self.prepare.get("spacing_mm", 1.0), self.prepare.get("divisor", PREPARED_DIVISOR)
        check_number(prepared_mm, "prepare.spacing_mm", low=MIN_SPACING_MM, high=MAX_SPACING_MM)
        check_number(sides, "prepare.divisor", low=1, high=MAX_DIVISOR, whole=True)
        for stage in self.stages:
            factor = whole_factor(stage.spacing_mm, prepared_mm, largest=MAX_POOLING)
            if factor is None:
                raise ModelError(
                    f"spacing_mm {stage.spacing_mm:g} of stage {stage.key} must be a whole number of times (1 to "
                    f"{MAX_POOLING}) the {prepared_mm:g} mm that studies are prepared to (prepare.spacing_mm)"
                )
            if sides % (stage.divisor * factor):
                raise ModelError(
                    f"studies are padded to multiples of {sides} (prepare.divisor), and stage {stage.key} at "
                    f"{stage.spacing_mm:g} mm needs multiples of {stage.divisor * factor}"
                )

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
        missing = [sequence.title for sequence in SEQUENCES if sequence not in present]
        if not missing:
            return ""
        names = " and ".join(missing)
        keys = ["+".join(s.value for s in SEQUENCES if s in kept) for kept in (present, SEQUENCES)]
        if not all(key in self.subsets for key in keys):
            alone = " alone, which is one of a cross-validation" if self.held_out else ""
            return f"how much is lost without {names} was not measured for this model{alone}"
        less, whole = (
            ", ".join(f"{region} {value:.2f}" for region, value in self.subsets[key].items()) for key in keys
        )
        return f"without {names} mean Dice on other studies was {less}; with all four sequences {whole}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :func:`card_from_dict`."""
        return {"format": CARD_FORMAT, **asdict(self)}


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
        post = dict(check_mapping(held.pop("postprocess"), "postprocess"))
        post = {key: tuple(value) if isinstance(value, list) else value for key, value in post.items()}
        listed = held.pop("stages")
        if not isinstance(listed, list | tuple):
            raise ModelError("stages must be a list")
        stages = tuple(_stage_from_dict(check_mapping(stage, "a stage")) for stage in listed)
        made: dict[str, Any] = {
            key: tuple(value) if key in LISTS and isinstance(value, list) else value for key, value in held.items()
        }
        return ModelCard(postprocess=PostprocessConfig(**post), stages=stages, **made)
    except (ModelError, TypeError, ValueError) as error:
        raise ModelError(f"{where} is no model card: {one_line(error)}") from error


def _stage_from_dict(values: Mapping[str, Any]) -> Stage:
    """A stage from plain values; cards without a layout mean the project's own."""
    return Stage(**{**values, "layout": Layout(**check_mapping(values.get("layout", {}), "layout"))})


@dataclass(frozen=True)
class ModelBundle:
    """A model on disk whose card has been read.

    Attributes:
        card: the card.
        folder: where its files lie.
    """

    card: ModelCard
    folder: Path

    @property
    def sha256(self) -> str:
        """One checksum for all that decides a result: weights, the order and axes of their channels, networks and
        stages, preprocessing, post-processing and intervals; not the card's words."""
        card = self.card
        deciding = {
            "stages": [stage.decides() for stage in card.stages],
            "prepare": card.prepare,
            "postprocess": asdict(card.postprocess),
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(card: ModelCard, folder: Path) -> None:
    """Write ``model.json`` whole or not at all."""
    partial = folder / f".{CARD}.partial"
    partial.write_text(json.dumps(card.to_dict(), indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / CARD)
