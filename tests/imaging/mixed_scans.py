"""Studies mixed up on purpose: what a folder of scans that do not belong together, or are not whole, looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brats_seg.core.grid import Array, Volume
from brats_seg.core.study import SEQUENCES, MRSequence

Images = dict[MRSequence, Volume]
T1, T1CE, T2, FLAIR = SEQUENCES


@dataclass(frozen=True)
class MixUp:
    """One study gone wrong.

    Attributes:
        kind: what went wrong; ``good`` for nothing.
        name: of kind and sequences, for messages.
        make: gives its images.
    """

    kind: str
    name: str
    make: Callable[[], Images]


def changed(images: Mapping[MRSequence, Volume], which: Sequence[MRSequence], do: Callable[[Array], Array]) -> Images:
    """The images with some of them changed in voxel order, on the same grids."""
    return {s: v.with_data(np.ascontiguousarray(do(v.data))) if s in which else v for s, v in images.items()}


def moved(data: Array, axis: int, voxels: int) -> Array:
    """Shifted, with nothing coming round from the other end."""
    result = np.zeros_like(data)
    n = data.shape[axis]
    to, start = max(voxels, 0), max(-voxels, 0)
    count = n - abs(voxels)
    spans = [slice(None)] * 3
    spans[axis] = slice(to, to + count)
    source = [slice(None)] * 3
    source[axis] = slice(start, start + count)
    result[tuple(spans)] = data[tuple(source)]
    return result


def part(data: Array, axis: int, share: float, *, low: bool) -> Array:
    """Zero in all but a share of the brain's extent along an axis, kept from one end."""
    filled = np.flatnonzero((data != 0).any(axis=tuple(a for a in range(3) if a != axis)))
    cut = int(filled[0] + round(share * (filled[-1] + 1 - filled[0])))
    if not low:
        cut = int(filled[-1] + 1 - round(share * (filled[-1] + 1 - filled[0])))
    result = data.copy()
    gone = [slice(None)] * 3
    gone[axis] = slice(cut, None) if low else slice(None, cut)
    result[tuple(gone)] = 0
    return result


def turned(data: Array, axis: int, degrees: float) -> Array:
    """Turned about an axis through the middle of the array."""
    plane = tuple(a for a in range(3) if a != axis)
    return ndimage.rotate(data.astype(np.float32), degrees, axes=plane, reshape=False, order=1)


def copy_of(data: Array, how: str, rng: np.random.Generator) -> Array:
    """Another image's voxels: as they are, rescaled, re-saved with fewer levels, noisy, or through a curve."""
    values = data.astype(np.float32)
    inside = values != 0
    top = float(values.max())
    if how == "rescaled":
        values = values * 1.01
    elif how == "resaved":
        values = np.round(values / top * 255)
    elif how == "noisy":
        values = values + rng.normal(0, 0.05 * values[inside].std(), values.shape).astype(np.float32)
    elif how == "curve":
        values = (values / top) ** 0.7 * 1000
    return np.where(inside, values, 0).astype(np.float32)


def mix_ups(
    images: Mapping[MRSequence, Volume],
    donor: Mapping[MRSequence, Volume],
    rng: np.random.Generator,
    *,
    voxel_mm: int = 1,
) -> Iterator[MixUp]:
    """One mixed-up study of every kind, sequences, axes and amounts drawn anew."""

    def some() -> tuple[MRSequence, ...]:
        count = 1 if rng.random() < 0.7 else 2
        return tuple(SEQUENCES[k] for k in sorted(rng.choice(4, count, replace=False)))

    def one(kind: str, which: Sequence[MRSequence], detail: str, do: Callable[[Array], Array]) -> MixUp:
        names = "+".join(s.title for s in which)
        return MixUp(kind, f"{kind} {names} {detail}".strip(), lambda: changed(images, which, do))

    axis, sign = int(rng.integers(3)), int(rng.choice([-1, 1]))
    which = some()
    names = "+".join(s.title for s in which)
    yield MixUp(
        "other patient", f"other patient {names}",
        lambda w=which: {s: v.with_data(donor[s].data) if s in w else v for s, v in images.items()},
    )  # fmt: skip
    for a in (0, int(rng.integers(1, 3))):
        yield one("mirrored", some(), f"axis {a}", lambda d, a=a: np.flip(d, a))
    amount = int(rng.choice([6, 8, 10, 14, 20]))
    yield one("shifted", some(), f"{amount} along {axis}", lambda d: moved(d, axis, sign * (amount // voxel_mm)))
    degrees = float(rng.choice([12, 20, 45, 90, 180]))
    yield one("turned", some(), f"{degrees:g} about 2", lambda d: turned(d, 2, degrees))
    share, low = float(rng.uniform(0.4, 0.7)), bool(rng.random() < 0.5)
    yield one("half, all", SEQUENCES, f"{share:.2f} axis {axis}", lambda d: part(d, axis, share, low=low))
    yield one("half, one", some(), f"{share:.2f} axis {axis}", lambda d: part(d, axis, share, low=low))
    third = float(rng.uniform(0.25, 0.85))
    yield one("partial", some()[:1], f"{third:.2f} of height", lambda d: part(d, 2, third, low=not low))
    first, second = (SEQUENCES[k] for k in rng.choice(4, 2, replace=False))
    how = str(rng.choice(["same", "rescaled", "resaved", "noisy", "curve"]))
    copied = images[second].with_data(copy_of(images[second].data, how, rng))
    yield MixUp("copy", f"copy {first.title} of {second.title}, {how}", lambda: {**images, first: copied})


def flagged_share(rows: Sequence[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """How many of each kind were flagged, of how many."""
    kinds = dict.fromkeys(kind for kind, _ in rows)
    return {kind: (sum(f for k, f in rows if k == kind), sum(k == kind for k, _ in rows)) for kind in kinds}
