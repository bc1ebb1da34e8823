"""Numbers and facts in words: what stands in the cells of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from brats_seg.core.labels import CAVITY, LabelSchema
from brats_seg.core.regions import RegionSet
from brats_seg.core.visit import Diameters, Lesion, Measurements, RegionVolume

NOT_KNOWN = "not known"
VERY_UNCERTAIN = "very uncertain"
LESION_ROWS = 10
"""Rows of the lesion table; the rest is counted and stands in the CSV file."""
SPECK_ML = 0.05
"""Lesions up to this size are counted and not listed one by one: the size up to which the lesion-wise evaluation of
BraTS 2023 leaves glioma lesions out (50 mm3)."""


def decimals_for(volume_ml: float) -> int:
    """Decimals that keep about three digits of a volume and never show less than 0.01 ml."""
    size = abs(volume_ml)
    if size >= 99.95:
        return 0
    return 1 if size >= 0.995 else 2


def ml(volume_ml: float | None) -> str:
    """A volume without its unit: ``123``, ``56.5``, ``4.2``, ``0.37``, ``< 0.01`` or ``not known``."""
    if volume_ml is None or not math.isfinite(volume_ml):
        return NOT_KNOWN
    if 0 < volume_ml < 0.005:
        return "< 0.01"
    if volume_ml == 0:
        return "0"
    return f"{volume_ml:.{decimals_for(volume_ml)}f}"


def interval(row: RegionVolume) -> str:
    """The interval of a volume without its unit: ``50 to 63``; ``not known`` where there is none."""
    if row.low_ml is None or row.high_ml is None:
        return NOT_KNOWN
    decimals = 0 if row.high_ml >= 20 else decimals_for(row.high_ml)
    return f"{row.low_ml:.{decimals}f} to {row.high_ml:.{decimals}f}"


def is_uncertain(row: RegionVolume) -> bool:
    """Whether the interval is wider than the volume itself, so that the volume alone says little."""
    return row.low_ml is not None and row.high_ml is not None and row.high_ml - row.low_ml > row.volume_ml > 0


def percent(level: float) -> str:
    """A share as a whole percentage where it is one: ``90 %``."""
    return f"{round(level * 100, 1):g} %"


def change(percent: float) -> str:
    """A change in percent with its sign: ``+12 %``."""
    return f"{percent:+.0f} %".replace("-", "\u2212")


def signed(volume_ml: float) -> str:
    """A change of a volume with its sign, without its unit."""
    return f"{'+' if volume_ml >= 0 else chr(0x2212)}{ml(abs(volume_ml))}"


def mm(length_mm: float) -> str:
    """A length without its unit, whole millimetres from 10 on: ``42``, ``7.5``."""
    return f"{length_mm:.0f}" if length_mm >= 9.95 else f"{length_mm:.1f}"


def slice_words(diameters: Diameters, shape: Sequence[int]) -> str:
    """``axial slice 87 of 155``, counted from 1 along the file's own axis, as viewers do."""
    return f"{diameters.plane} slice {diameters.slice_index + 1} of {shape[diameters.axis]}"


def short_hash(sha256: str) -> str:
    """The first twelve digits of a checksum, enough to compare by eye."""
    return sha256[:12] if sha256 else NOT_KNOWN


def plain(value: Any) -> str:
    """Any value of a model card or a run record in one line: mappings as ``key value``, lists with commas."""
    if value is None or value in ("", (), [], {}):
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        parts = (_pair(str(key), inner) for key, inner in value.items())
        is_long = any(isinstance(inner, Mapping) or ", " in str(inner) for inner in value.values())
        return ("; " if is_long else ", ").join(parts)
    if isinstance(value, Sequence) and not isinstance(value, str):
        words = [plain(inner).rstrip(".") for inner in value]
        return ("; " if any(" " in word for word in words) else ", ").join(words)
    return str(value)


def _pair(key: str, value: Any) -> str:
    words = key.replace("_", " ")
    return f"{words}: {plain(value)}" if isinstance(value, Mapping) else f"{words} {plain(value)}"


def sentence(words: str) -> str:
    """Words with a capital letter at the front and a full stop at the end."""
    words = words.strip()
    if not words:
        return ""
    ended = words if words.endswith((".", "!", "?")) else words + "."
    return ended[0].upper() + ended[1:]


def unique(lines: Sequence[str]) -> tuple[str, ...]:
    """Sentences in their order, each once, empty ones left out."""
    return tuple(dict.fromkeys(made for line in lines if (made := sentence(line))))


def meaning(name: str, regions: RegionSet, schema: LabelSchema) -> str:
    """What a region holds, in the tissues of the schema: ``enhancing tumour + necrotic tumour core``."""
    if name not in regions.names:
        return ""
    members = [structure.title for structure in schema.structures if structure in regions[name].structures]
    return " + ".join(members) if len(members) > 1 else ""


def reservations(row: RegionVolume) -> str:
    """What to know of a volume, in words."""
    at_edge = "reaches the edge of the image, may be cut off" if row.touches_border and row.volume_ml > 0 else ""
    return "; ".join(filter(None, (row.note, at_edge, VERY_UNCERTAIN if is_uncertain(row) else "")))


def lesion_groups(measurements: Measurements, regions: RegionSet) -> list[tuple[str, tuple[Lesion, ...], str]]:
    """The largest lesions by region, at most :data:`LESION_ROWS` in all, shared out evenly, specks left out.

    Each with the name of the region, and in words how many smaller ones are left out. Those of the regions that
    criteria follow, and of cavities; the others' are in the CSV file only. A region that has nothing but specks shows
    its largest one.
    """
    names = [region.name for region in regions.followed or regions.outermost]
    found = {name: measurements.lesions_of(name) for name in (*names, CAVITY.name)}
    found = {name: lesions for name, lesions in found.items() if lesions}
    shares = _share_out({name: max(1, len(without_specks(lesions))) for name, lesions in found.items()}, LESION_ROWS)
    groups = []
    for name, lesions in found.items():
        rest = lesions[shares[name] :]
        together = f"and {len(rest)} smaller, {ml(sum(lesion.volume_ml for lesion in rest))} ml together"
        groups.append((name, lesions[: shares[name]], together if rest else ""))
    return groups


def without_specks(lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
    """Lesions larger than :data:`SPECK_ML`."""
    return tuple(lesion for lesion in lesions if lesion.volume_ml > SPECK_ML)


def _share_out(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Rows for each group: one at a time in turn until all are shown or the total is reached."""
    shares = dict.fromkeys(counts, 0)
    while sum(shares.values()) < min(total, sum(counts.values())):
        for name in counts:
            if shares[name] < counts[name] and sum(shares.values()) < total:
                shares[name] += 1
    return shares
