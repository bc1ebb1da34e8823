"""Typed settings of a training run, read from YAML; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from brats_seg.core.errors import UsageError
from brats_seg.core.study import SEQUENCES
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import regions_of
from brats_seg.networks.configs import AttentionUNetConfig


@dataclass(frozen=True)
class AugmentConfig:
    """How much each sample is altered. Probabilities are per sample unless said otherwise.

    Attributes:
        flip: mirror left and right.
        rotation_deg: standard deviation of the rotation about each axis.
        scale: largest relative change of size.
        elastic: probability of a smooth random deformation.
        elastic_mm: standard deviation of its displacement.
        contrast: largest relative change of contrast, per sequence.
        brightness: largest shift in standard deviations, per sequence.
        gamma: probability of a gamma curve, per sequence.
        bias_field: probability of a smooth multiplicative field, per sequence.
        noise: probability of Gaussian noise, per sequence.
        blur: probability of blurring, per sequence.
        thick_slices: probability of simulating thick slices, per sequence.
        field_of_view: probability that only a slab of the head was scanned, such as half of it or no vertex; what is
            left is normalised anew, as preparation would.
        drop_sequence: probability that at least one sequence is missing.
        drop_odds: of T1, T1CE, T2 and FLAIR to be the one that is missing, relative to one another.
        transplant: probability that another patient's lesion is placed into the sample (CarveMix).
        prior_shift: standard deviation of a shift of the coarse stage's log-odds, per region.
        prior_scale: standard deviation of the logarithm of a factor on them.
    """

    flip: float = 0.5
    rotation_deg: float = 8.0
    scale: float = 0.15
    elastic: float = 0.3
    elastic_mm: float = 3.0
    contrast: float = 0.25
    brightness: float = 0.3
    gamma: float = 0.3
    bias_field: float = 0.2
    noise: float = 0.2
    blur: float = 0.15
    thick_slices: float = 0.1
    field_of_view: float = 0.15
    drop_sequence: float = 0.15
    drop_odds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    transplant: float = 0.25
    prior_shift: float = 0.7
    prior_scale: float = 0.2

    def __post_init__(self) -> None:
        if len(self.drop_odds) != len(SEQUENCES) or min(self.drop_odds) <= 0:
            raise ValueError(
                f"drop_odds {list(self.drop_odds)}: one number above 0 for each of {len(SEQUENCES)} sequences"
            )


@dataclass(frozen=True)
class PhantomMixConfig:
    """Phantom patients among the studies (:mod:`brats_seg.train.phantoms`).

    Attributes:
        share: of the samples that show a phantom; 0 for none.
        count: bodies; each is scanned anew for every sample.
    """

    share: float = 0.0
    count: int = 36
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.count < 1:
            raise ValueError(f"phantoms: share {self.share:g} must lie in 0..1 and count {self.count} be at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of :func:`brats_seg.train.loop.train`.

    Attributes:
        stage: ``coarse`` (whole brain) or ``fine`` (around the tumour); names the part of a model.
        spacing_mm: voxel size the network works at; a whole multiple of ``prepare.spacing_mm``.
        patches: voxel shapes samples are cut to; each step draws one.
        tumour_centred: share of samples centred on a tumour voxel instead of the brain.
        steps: optimiser steps; 0 for as many as fit into the time the command is given (``--stop-after-s``).
        batch: samples per step, over all processes.
        precision: of the network's arithmetic: ``bf16``, ``fp32``, or ``auto``, bf16 on a GPU and fp32 elsewhere. A
            processor with bf16 instructions (``avx512_bf16`` or ``amx_bf16``) takes half the time for a step with it.
        learning_rate: peak, reached after ``warmup`` steps, then a cosine down to 1 % of it.
        warmup: steps of linear rise.
        weight_decay: decoupled from the gradient.
        ema: decay of the averaged weights, which are what is kept.
        keep: share that the weights it started from have in what is kept; a network that goes on for one purpose then
            forgets less of the others (Wortsman et al. 2022, arXiv:2109.01903).
        cross_entropy: weight of the cross-entropy beside Dice.
        sequences: those the network gets; the others are blank, as if never scanned. All four make one model for
            every subset; fewer make one for just these, to compare with.
        coarse_views: altered copies of each study that the coarse stage is asked about, for a cascaded fine stage.
        validate_every: steps between validations on full volumes; 0 for none.
        validation: ids of studies kept out of training.
        prepare: preprocessing, which becomes part of the model.
        phantoms: phantom patients among the samples of a coarse stage.
        teacher: share of a teacher's probabilities in the target, beside the expert's label; see
            :func:`~brats_seg.train.data.blended`.
        cubes: most small labelled parts of further patients that are placed into a sample.
        auxiliary: share of the samples that show a study of the auxiliary data set, such as scanned phantoms; nothing
            is validated on these, and no fold keeps any out.
    """

    stage: str = "coarse"
    spacing_mm: float = 2.0
    patches: tuple[tuple[int, int, int], ...] = ((80, 96, 80),)
    tumour_centred: float = 0.0
    steps: int = 4000
    batch: int = 1
    precision: str = "auto"
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema: float = 0.998
    keep: float = 0.0
    cross_entropy: float = 1.0
    sequences: tuple[str, ...] = tuple(sequence.value for sequence in SEQUENCES)
    coarse_views: int = 8
    seed: int = 0
    checkpoint_s: float = 120.0
    validate_every: int = 0
    validation: tuple[str, ...] = ()
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    network: AttentionUNetConfig = field(default_factory=AttentionUNetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    phantoms: PhantomMixConfig = field(default_factory=PhantomMixConfig)
    teacher: float = 0.0
    cubes: int = 0
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        if self.stage not in ("coarse", "fine"):
            raise UsageError(f"stage is {self.stage!r}; choose coarse or fine")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"precision is {self.precision!r}; choose auto, bf16 or fp32")
        factor = self.spacing_mm / self.prepare.spacing_mm
        if factor < 1 or abs(factor - round(factor)) > 1e-6:
            raise UsageError(
                f"spacing_mm {self.spacing_mm:g} must be a whole multiple of prepare.spacing_mm "
                f"{self.prepare.spacing_mm:g}"
            )
        self._check_network()
        if self.phantoms.share > 0 and self.stage != "coarse":
            raise UsageError("phantoms are mixed into the coarse stage only; set phantoms.share to 0")
        if self.phantoms.share > 0 and set(self.sequences) != {sequence.value for sequence in SEQUENCES}:
            raise UsageError("phantoms are scanned with all four sequences; set phantoms.share to 0 for fewer")
        for name in ("keep", "auxiliary", "teacher"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name):g}; choose a share, 0 or more and less than 1")
        if self.cubes < 0:
            raise UsageError(f"cubes is {self.cubes}; choose 0 or more")
        if self.steps != 0 and not 0 < self.warmup < self.steps:
            raise UsageError(f"warmup {self.warmup} must lie between 0 and steps {self.steps}")

    def _check_network(self) -> None:
        """Patches, sequences and stages must suit the network."""
        divisor = self.network.divisor
        for patch in self.patches:
            if len(patch) != 3 or any(side % divisor for side in patch):
                raise UsageError(f"patch {patch} needs three sides that are multiples of {divisor}")
        unknown = sorted(set(self.sequences) - {sequence.value for sequence in SEQUENCES})
        if unknown or not self.sequences:
            raise UsageError(f"sequences {list(self.sequences)}: choose from {', '.join(s.value for s in SEQUENCES)}")
        if self.network.in_channels not in (len(SEQUENCES), len(SEQUENCES) + len(regions_of())):
            raise UsageError(
                f"network.in_channels is {self.network.in_channels}; {len(SEQUENCES)} sequences, or with the coarse "
                f"stage's {len(regions_of())} probabilities {len(SEQUENCES) + len(regions_of())}, make sense"
            )
        if self.is_cascaded and (self.stage != "fine" or self.coarse_views < 1):
            raise UsageError(
                "only a fine stage, with at least one of coarse_views, can take the probabilities of the coarse one"
            )

    @property
    def is_cascaded(self) -> bool:
        """Whether the coarse stage's probabilities are inputs beside the sequences."""
        return self.network.in_channels > len(SEQUENCES)

    def uses_bf16(self, device_type: str) -> bool:
        """Whether the network computes in bf16 on ``cpu`` or ``cuda``."""
        return self.precision == "bf16" or (self.precision == "auto" and device_type == "cuda")

    @property
    def factor(self) -> int:
        """How many prepared voxels one network voxel spans along each axis."""
        return round(self.spacing_mm / self.prepare.spacing_mm)


WANTED = {
    "auxiliary": ("--auxiliary", "DATASET", "their share of the samples, such as 0.2"),
    "teacher": ("--teacher", "FOLDER", "its share in the target, such as 0.3"),
    "cubes": ("--cubes", "FILE", "how many are placed into a sample at most, such as 3"),
}
"""What a stage may ask for besides studies: setting to option, its value, and what to set."""


def check_given(stages: Sequence[TrainConfig], *, is_all: bool = True, **given: bool) -> None:
    """See that what stages ask for besides studies is given, and what is given asked for.

    Args:
        is_all: whether these are all stages; else what is given may be for another one.
        given: whether there is any of each of :data:`WANTED`.

    Raises:
        UsageError: if not.
    """
    for name, is_given in given.items():
        option, value, setting = WANTED[name]
        wanted = [stage.stage for stage in stages if getattr(stage, name) > 0]
        if wanted and not is_given:
            raise UsageError(f"stage {wanted[0]} sets {name}; pass {option} {value}")
        if is_given and is_all and not wanted:
            raise UsageError(
                f"{option} was passed, but no stage of the configuration sets {name}; set {name} to {setting}"
            )


_RETIRED = {"optimiser": "muon", "region_weights": [1.0, 1.0, 1.0], "tensorboard": False}
"""Settings that runs of earlier versions wrote down, with the one value that is still what is done."""


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """A configuration from plain values such as a YAML file holds.

    Raises:
        UsageError: naming unknown keys and those that exist, or values that do not fit.
    """
    asked = {key: value for key, value in values.items() if key not in _RETIRED or value != _RETIRED[key]}
    config: TrainConfig = _build(TrainConfig, asked, "the training configuration")
    return config


_NESTED: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "network": AttentionUNetConfig,
    "augment": AugmentConfig,
    "phantoms": PhantomMixConfig,
}


def _build(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"{where} has unknown keys {unknown}; known are: {', '.join(sorted(known))}")
    default = kind()
    built: dict[str, Any] = {}
    for key, value in values.items():
        nested = _NESTED.get(key) if kind is TrainConfig else None
        built[key] = _build(nested, value or {}, key) if nested else _checked(value, getattr(default, key), key)
    try:
        return kind(**built)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


def _checked(value: Any, default: Any, key: str) -> Any:
    """A value of the type of its default; YAML reads ``1e-3`` as a word, because it has no point."""
    if isinstance(default, float) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    wanted: tuple[type, ...] = {float: (float, int), tuple: (list, tuple)}.get(type(default), (type(default),))
    if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise UsageError(f"{key} is {value!r}, where a {type(default).__name__} such as {default!r} is needed")
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
