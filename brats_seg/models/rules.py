"""How probabilities become a label map: thresholds, and rules that doubt what is probably no tumour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from brats_seg.core.errors import ModelError
from brats_seg.core.labels import Region
from brats_seg.core.regions import RegionSet
from brats_seg.core.study import MRSequence
from brats_seg.models.checks import check_mapping, check_number

MAX_HEAD_ML = 3000.0
"""No head holds more."""


@dataclass(frozen=True)
class RequireCore:
    """Doubt a small component of a region that nowhere reaches much probability of a region inside it.

    Attributes:
        region: whose components.
        core: the region inside it.
        min_probability: of the core, from which a component is half believed; from one half more on altogether.
        min_ml: size from which a component is half believed without a core.

    Raises:
        ModelError: if a value makes no sense, naming it.
    """

    name: ClassVar[str] = "require_core"
    region: str
    core: str
    min_probability: float = 0.5
    min_ml: float = 0.5

    def __post_init__(self) -> None:
        check_number(self.min_probability, f"min_probability of {self.name}", low=0, high=1)
        check_number(self.min_ml, f"min_ml of {self.name}", low=0, high=MAX_HEAD_ML)

    def check(self, regions: RegionSet, sequences: Sequence[MRSequence]) -> None:
        """Refuse regions that the card does not have.

        Raises:
            ModelError: naming them.
        """
        if _named(self.core, regions, self.name).inside != _named(self.region, regions, self.name).name:
            raise ModelError(f"{self.name}: region {self.core} does not lie inside {self.region}")


@dataclass(frozen=True)
class RequireEnhancement:
    """Doubt a region as a whole where there is next to nothing of it, or where contrast hardly brightens it.

    Attributes:
        min_ml: size that is half believed, twice as much altogether; 0 doubts none.
        rise: up to where and from where on it is doubted altogether and not at all, by how much more it enhances from
            T1 to T1CE than the rest of the tumour (``relative_enhancement`` of
            :mod:`brats_seg.segment.postprocess`); None doubts none.

    Raises:
        ModelError: if a value makes no sense, naming it.
    """

    name: ClassVar[str] = "require_enhancement"
    region: str
    min_ml: float = 0.0
    rise: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_number(self.min_ml, f"min_ml of {self.name}", low=0, high=MAX_HEAD_ML)
        if self.rise is not None:
            if not isinstance(self.rise, tuple) or len(self.rise) != 2:
                raise ModelError(f"rise {self.rise!r} of {self.name} must be a list of 2 numbers")
            for value in self.rise:
                check_number(value, f"each of rise of {self.name}", low=-100, high=100)
            if self.rise[0] >= self.rise[1]:
                raise ModelError(f"rise {self.rise} of {self.name} must be two numbers, the smaller first")

    def check(self, regions: RegionSet, sequences: Sequence[MRSequence]) -> None:
        """Refuse a region that the card does not have, and enhancement of scans that it does not look at.

        Raises:
            ModelError: naming them.
        """
        _named(self.region, regions, self.name)
        if self.rise is not None and MRSequence.T1CE not in sequences:
            raise ModelError(f"{self.name}: rise is the enhancement in T1CE, which the model does not look at")


Rule = RequireCore | RequireEnhancement
RULES: Mapping[str, type[RequireCore | RequireEnhancement]] = {
    rule.name: rule for rule in (RequireCore, RequireEnhancement)
}
"""By the name a card has for them."""


@dataclass(frozen=True)
class PostprocessConfig:
    """How probabilities become a label map; fitted on training studies and kept in the card.

    Attributes:
        thresholds: by region, probability from which a voxel belongs to it; one half where not named.
        temperature: by region, what its log-odds are divided by, so that probabilities mean what they say; 1 where not
            named.
        fine_weight: share of the fine stage in the mean of both stages, around the tumour.
        roi_threshold: coarse probability of tumour from which a voxel belongs to the region of interest.
        rules: what is doubted, one rule after the other.

    Raises:
        ModelError: if a value makes no sense, naming it.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperature: Mapping[str, float] = field(default_factory=dict)
    fine_weight: float = 0.5
    roi_threshold: float = 0.2
    roi_margin_mm: float = 12.0
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        for what, low, high in (("thresholds", 0.01, 0.99), ("temperature", 0.01, 100)):
            values = check_mapping(getattr(self, what), what)
            for name, value in values.items():
                check_number(value, f"{what} of {name}", low=low, high=high)
            object.__setattr__(self, what, dict(values))
        for name, high in (("fine_weight", 1), ("roi_threshold", 1), ("roi_margin_mm", 300)):
            check_number(getattr(self, name), name, low=0, high=high)

    def check(self, regions: RegionSet, sequences: Sequence[MRSequence]) -> None:
        """Refuse settings of regions and sequences that a card does not have.

        Raises:
            ModelError: naming them.
        """
        for what in ("thresholds", "temperature"):
            for name in getattr(self, what):
                _named(name, regions, what)
        for rule in self.rules:
            rule.check(regions, sequences)

    def threshold(self, region: Region) -> float:
        """From which a voxel belongs to a region."""
        return self.thresholds.get(region.name, 0.5)

    def temperatures(self, regions: RegionSet) -> list[float]:
        """One for each channel."""
        return [self.temperature.get(region.name, 1.0) for region in regions]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :func:`postprocess_from_dict`."""
        return {
            **{entry.name: getattr(self, entry.name) for entry in fields(self)},
            "thresholds": dict(self.thresholds),
            "temperature": dict(self.temperature),
            "rules": [{"rule": rule.name, **asdict(rule)} for rule in self.rules],
        }


def postprocess_from_dict(values: Any) -> PostprocessConfig:
    """From plain values.

    Raises:
        ModelError: if there is no such rule or setting, or a value makes no sense.
        TypeError: if a setting is unknown.
    """
    held = dict(check_mapping(values, "postprocess"))
    rules = held.pop("rules", ())
    if not isinstance(rules, list | tuple):
        raise ModelError("rules must be a list")
    return PostprocessConfig(rules=tuple(map(_rule_from_dict, rules)), **held)


def _rule_from_dict(values: Any) -> Rule:
    held = dict(check_mapping(values, "a rule"))
    name = held.pop("rule", None)
    if not isinstance(name, str) or name not in RULES:
        raise ModelError(f"there is no rule {name!r}; there are {', '.join(RULES)}")
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}
    return RULES[name](**made)


def _named(name: Any, regions: RegionSet, what: str) -> Region:
    """The region of that name."""
    if name not in regions.names:
        raise ModelError(f"{what} names the region {name!r}; the card has {', '.join(regions.names)}")
    return regions[name]
