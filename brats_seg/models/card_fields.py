"""What a model card holds, and whether it agrees with itself: words, tissues, schemas, networks that work together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from brats_seg.core.errors import ModelError
from brats_seg.core.labels import LabelSchema
from brats_seg.core.regions import RegionSet
from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.checks import (
    SHA256,
    check_mapping,
    check_name,
    check_number,
    check_plain,
    check_text,
    check_texts,
    shown,
)
from brats_seg.models.rules import PostprocessConfig
from brats_seg.models.stage import MAX_SPACING_MM, MIN_SPACING_MM, Stage
from brats_seg.volumetrics.intervals import IntervalModel

TASKS = ("regions",)
"""What a model can be for: to draw the regions of its card."""
LISTS = ("criteria", "held_out", "limits", "citations", "seen")
"""Keys that list texts."""
PREPARED_DIVISOR = 32
"""What prepared studies are padded to a multiple of, unless a model's card says otherwise."""
MAX_POOLING = 8
"""Largest step from the spacing of prepared studies to that of a network."""
MAX_DIVISOR = 512


@dataclass(frozen=True)
class CardFields:
    """What a model is, was trained on, and can be expected to do.

    Attributes:
        name: as typed on the command line.
        version: of the weights.
        description: one sentence.
        licence: of the weights.
        trained_on: data and split, in words.
        knows_treated_brains: whether scans after surgery or radiotherapy were among those it was trained on.
        task: what it is for, one of :data:`TASKS`.
        sequences: it looks at, in the order of the channels of prepared studies; any but one may be missing.
        regions: it draws.
        schemas: of the label maps that can be written; the first unless another is asked for.
        criteria: names of the response criteria that are made for such tumours; the first unless others are asked for.
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
    task: str
    sequences: tuple[MRSequence, ...]
    regions: RegionSet
    schemas: tuple[LabelSchema, ...]
    criteria: tuple[str, ...]
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
        _check_words(self)
        names = [sequence.value for sequence in self.sequences]
        try:
            laid = tuple(replace(s, layout=s.layout.of(names, self.regions.names)) for s in self.stages)
        except ValueError as error:
            raise ModelError(f"layout: {error}") from error
        object.__setattr__(self, "stages", laid)
        _check_stages(self)


def _check_words(card: CardFields) -> None:
    """Refuse what a card cannot say, but for its stages."""
    check_name(card.name, "name")
    check_name(card.version, "version", spaces=True)
    for key in ("description", "licence", "trained_on"):
        check_text(getattr(card, key), key)
    for key in LISTS:
        check_texts(getattr(card, key), key)
    for key in ("accuracy", "prepare", "intervals"):
        if getattr(card, key) is not None or key != "intervals":
            check_plain(check_mapping(getattr(card, key), key), key)
    if card.task not in TASKS:
        raise ModelError(f"task {card.task!r} is not known; known: {', '.join(TASKS)}")
    _check_subsets(card)
    _check_fingerprints(card)
    if not isinstance(card.knows_treated_brains, bool):
        raise ModelError(f"knows_treated_brains {card.knows_treated_brains!r} must be true or false")
    scales = () if card.intervals is None else IntervalModel.from_dict(card.intervals).scales
    unknown = sorted(set(scales) - {*card.regions.names, *card.regions.tissues})
    if unknown:
        raise ModelError(f"intervals are given of {', '.join(unknown)}, which is no region of the card and no tissue")
    _check_schemas(card)
    card.postprocess.check(card.regions, card.sequences)
    for region in card.regions:
        unseen = [sequence.value for sequence in region.shown_by if sequence not in card.sequences]
        if unseen:
            raise ModelError(f"region {region.name} is shown_by {', '.join(unseen)}, which is not among sequences")


def _check_schemas(card: CardFields) -> None:
    """Refuse schemas whose numbers cannot hold the regions."""
    if not card.schemas:
        raise ModelError("schemas must list one or more; the first is that of the label maps it writes")
    own = set(card.regions.tissues.values())
    for schema in card.schemas:
        strange = [tissue.name for tissue in schema.structures if tissue not in own]
        if strange:
            raise ModelError(f"schema {schema.name} has the tissue {strange[0]}, which is in no region of the card")
        unread = [region.name for region in card.regions if region not in card.regions.told_by(schema)]
        unwritten = [r.name for r in card.regions if len(card.regions.alone(r, schema)) != 1]
        if unread or unwritten:
            raise ModelError(
                f"schema {schema.name} ({schema.numbers}) cannot hold {', '.join(unread or unwritten)}: every "
                "region needs one number for what of it lies in no other"
            )


def _check_stages(card: CardFields) -> None:
    """Refuse networks that do not take the card's sequences, do not give its regions, or do not work together."""
    sequences, regions = len(card.sequences), len(card.regions)
    for stage in card.stages:
        taken, given = stage.shape.in_channels, stage.shape.out_channels
        if taken not in (sequences, sequences + regions) or given != regions:
            raise ModelError(
                f"the network of stage {stage.key} takes {taken} channels and gives {given}; it has to take "
                f"{sequences}, the sequences, or {sequences + regions}, with what a coarse stage gives, and to "
                f"give the {regions} regions"
            )
    _check_order(card)


def _check_order(card: CardFields) -> None:
    """Refuse stages that cannot work together, or not on what is prepared for them."""
    first = [stage.name for stage in card.stages if stage.member == 1]
    if first not in (["coarse"], ["coarse", "fine"], ["fine"]):
        raise ModelError(f"model {card.name} has stages {first}; known: coarse, fine")
    wanted = [(name, 1 + n // len(first)) for n, name in enumerate(first * (len(card.stages) // len(first)))]
    if [(stage.name, stage.member) for stage in card.stages] != wanted:
        raise ModelError(
            f"model {card.name} has stages {[stage.key for stage in card.stages]}; every member of an ensemble "
            f"needs the stages of the first, {first}"
        )
    if card.stages[0].is_cascaded:
        raise ModelError(
            f"stage {card.stages[0].name} of model {card.name} takes the probabilities of a coarse stage, and "
            "none is before it"
        )
    prepared_mm, sides = card.prepare.get("spacing_mm", 1.0), card.prepare.get("divisor", PREPARED_DIVISOR)
    check_number(prepared_mm, "prepare.spacing_mm", low=MIN_SPACING_MM, high=MAX_SPACING_MM)
    check_number(sides, "prepare.divisor", low=1, high=MAX_DIVISOR, whole=True)
    for stage in card.stages:
        factor = _whole_factor(stage.spacing_mm, prepared_mm)
        if factor is None:
            raise ModelError(
                f"spacing_mm {stage.spacing_mm:g} of stage {stage.key} must be a whole number of times (1 to "
                f"{MAX_POOLING}) the {prepared_mm:g} mm that studies are prepared to (prepare.spacing_mm)"
            )
        if sides % (stage.shape.divisor * factor):
            raise ModelError(
                f"studies are padded to multiples of {sides} (prepare.divisor), and stage {stage.key} at "
                f"{stage.spacing_mm:g} mm needs multiples of {stage.shape.divisor * factor}"
            )


def _check_subsets(card: CardFields) -> None:
    """Refuse what is no table of Dice by region and by sequences such as ``t1+t2+flair``."""
    sequences = [sequence.value for sequence in card.sequences]
    for key, scores in check_mapping(card.subsets, "subsets").items():
        names = key.split("+")
        if names != [name for name in sequences if name in names]:
            raise ModelError(f"subsets has the row {shown(key)}; rows are sequences of {'+'.join(sequences)}")
        for region, score in check_mapping(scores, f"subsets.{key}").items():
            if region not in card.regions.names:
                known = ", ".join(card.regions.names)
                raise ModelError(f"subsets.{key} has the region {shown(region)}; there are {known}")
            check_number(score, f"subsets.{key}.{region}", low=0, high=1)


def _check_fingerprints(card: CardFields) -> None:
    """Refuse what are no fingerprints of scans, by study and sequence, or are of a study that is not among ``seen``."""
    known = [sequence.value for sequence in SEQUENCES]
    for study, marks in check_mapping(card.fingerprints, "fingerprints").items():
        if study not in card.seen:
            raise ModelError(f"fingerprints are given of {shown(study)}, which is not among seen")
        for sequence, digest in check_mapping(marks, f"fingerprints.{study}").items():
            if sequence not in known or not isinstance(digest, str) or not SHA256.fullmatch(digest):
                found = shown({sequence: digest})
                raise ModelError(f"fingerprints of {study} hold {found}, not 64 digits for a sequence")


def _whole_factor(stage_mm: float, prepared_mm: float) -> int | None:
    """How many prepared voxels one of a network's spans along an axis; None where that is not 1 to
    :data:`MAX_POOLING`."""
    factor, whole = stage_mm / prepared_mm, round(stage_mm / prepared_mm)
    return whole if math.isclose(factor, whole, rel_tol=1e-6) and 1 <= whole <= MAX_POOLING else None
