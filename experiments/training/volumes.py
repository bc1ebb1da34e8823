"""Volumes made for training: tumours of other shapes in the brains of labelled studies, and phantoms.

    python experiments/training/volumes.py shapes PACKS -o OUT --maps maps.npy.xz --split split.json [--count 140]
    python experiments/training/volumes.py phantoms -o OUT [--count 60]

A volume is a function of seed and number, so that a run that was stopped goes on with those that are missing. A pack
names the studies it was made of, and a training run leaves it out where it keeps one of them out; both come from one
fold of the split, so that only one fold goes without it.

The label maps are ``(N, 128, 128, 128)`` of the whole head on the atlas of the studies, numbers 1 necrosis, 2 edema, 4
enhancing, axes towards left, posterior and superior.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.core.labels import DEFAULT_SCHEMA, SCHEMAS
from brats_seg.imaging.boxes import bounding_box
from brats_seg.models.card import regions_of
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy, load_packs, write_pack
from brats_seg.train.phantoms import KINDS, draw_phantoms, make_shares

MAP_MM = (1.875, 1.875, 155 / 128)
BRAIN_CENTRE_MM = (119.0, 127.5, 71.0)
"""Middle of the brain's bounding box on the atlas of 240 x 240 x 155 mm (left, posterior, superior), by the studies."""
STRUCTURES = (1, 2, 3)
"""Necrosis, edema, enhancing tumour in the default schema."""
LEAST_VOXELS = 300
"""Of a structure in a donor, to take its looks from."""
JITTER_VOXELS = 1.0
"""Standard deviation of where a voxel takes its looks from, so that none of the donor is seen many times over."""
MOST_MIRRORED = 0.02
"""Share of a tumour whose mirror image is tumour as well, up to which the other hemisphere can cover it."""


class Tumour(NamedTuple):
    """Labels around a tumour, in the default schema, and where its first voxel lies."""

    labels: NDArray[np.uint8]
    start: NDArray[np.int64]


def tumour_of(labels: NDArray[np.uint8]) -> Tumour | None:
    """The labelled part of a volume; None where there is none."""
    box = bounding_box(labels > 0)
    return None if box is None else Tumour(labels[box], np.array([side.start for side in box]))


def shape_at_1_mm(label_map: NDArray[np.uint8]) -> Tumour | None:
    """A label map's tumour at 1 mm, axes towards right, anterior, superior; starts count from the brain's middle."""
    held = tumour_of(SCHEMAS["brats2021"].convert(label_map, DEFAULT_SCHEMA))
    if held is None:
        return None
    padded = np.pad(held.labels, 1)
    masks = {}
    for region in regions_of():
        mask = DEFAULT_SCHEMA.region_mask(padded, region).astype(np.float32)
        masks[region] = ndimage.zoom(mask, MAP_MM, order=1, mode="grid-constant", grid_mode=True) >= 0.5
    labels = regions_of().compose(masks, DEFAULT_SCHEMA)[::-1, ::-1]
    first_mm = (held.start - 1) * np.array(MAP_MM) - np.array(BRAIN_CENTRE_MM)
    start = np.array([-first_mm[0] - labels.shape[0], -first_mm[1] - labels.shape[1], first_mm[2]])
    return Tumour(np.ascontiguousarray(labels), np.rint(start).astype(np.int64))


def without_tumour(pack: PackedStudy) -> PackedStudy | None:
    """The study with its tumour covered by the other hemisphere; None where that holds tumour, too."""
    whole = pack.labels > 0
    wide = ndimage.binary_dilation(whole, iterations=3)
    if (wide & whole[::-1]).sum() > MOST_MIRRORED * whole.sum():
        return None
    brain = (pack.image != 0).any(axis=0)
    soft = np.clip(ndimage.gaussian_filter(wide.astype(np.float32), 1.5) * 2, 0, 1)
    soft *= brain & brain[::-1]
    image = pack.image + soft * (pack.image[:, ::-1].astype(np.float32) - pack.image)
    left = np.where(soft > 0.5, 0, pack.labels).astype(np.uint8)  # at the skull there may be nothing to cover it with
    return PackedStudy(pack.id, np.rint(image).astype(np.int8), left, (pack.id,))


def looks(shape: NDArray[np.uint8], donor: PackedStudy, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """Grey levels ``(4, x, y, z)`` for a tumour of another shape, of the nearest voxels of the donor's same structure.

    Both tumours are laid on one another by their middles and extents. None where the donor lacks a structure.
    """
    box = bounding_box(donor.labels > 0)
    if box is None:
        return None
    labels, image = donor.labels[box], donor.image[(slice(None), *box)]
    ours, theirs = np.argwhere(shape > 0), np.argwhere(labels > 0)
    scale = theirs.std(axis=0) / np.maximum(ours.std(axis=0), 1e-3)
    made = np.zeros((len(image), *shape.shape), np.float32)
    for number in STRUCTURES:
        places = np.argwhere(shape == number)
        if not len(places):
            continue
        if (labels == number).sum() < LEAST_VOXELS:
            return None
        nearest = ndimage.distance_transform_edt(labels != number, return_distances=False, return_indices=True)
        there = (places - ours.mean(axis=0)) * scale + theirs.mean(axis=0)
        there += rng.normal(0.0, JITTER_VOXELS, there.shape)
        there = np.clip(np.rint(there).astype(int), 0, np.array(labels.shape) - 1)
        x, y, z = nearest[:, *there.T]
        made[:, *places.T] = image[:, x, y, z]
    return made


def place(host: PackedStudy, shape: Tumour, donor: PackedStudy, rng: np.random.Generator) -> PackedStudy | None:
    """The host with a tumour of a shape, at its place in the brain, that looks like the donor's."""
    start = shape.start + np.array(host.labels.shape) // 2
    low = np.maximum(-start, 0)
    high = np.minimum(np.array(host.labels.shape) - start, shape.labels.shape)
    if (high <= low).any():
        return None
    inner = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    outer = tuple(slice(a, b) for a, b in zip(start + low, start + high, strict=True))
    image, labels = host.image.astype(np.float32), host.labels.copy()
    brain = (host.image != 0).any(axis=0)
    new = shape.labels[inner] * brain[outer]
    if (new > 0).sum() < (shape.labels > 0).sum() / 2 or (levels := looks(new, donor, rng)) is None:
        return None
    soft = np.minimum(ndimage.gaussian_filter((new > 0).astype(np.float32), 0.7), new > 0)
    part = image[(slice(None), *outer)]
    image[(slice(None), *outer)] = part + soft * (levels - part)
    labels[outer] = np.where(new > 0, new, labels[outer])
    return PackedStudy(host.id, np.rint(image).astype(np.int8), labels, (host.id, donor.id))


def make_shape(folds: list[list[PackedStudy]], maps: NDArray[np.uint8], rng: np.random.Generator) -> PackedStudy:
    """A volume drawn by chance; drawn again until its parts fit."""
    while True:
        packs = folds[rng.integers(len(folds))]
        host, donor = (packs[k] for k in rng.choice(len(packs), 2, replace=False))
        shape, covered = shape_at_1_mm(maps[rng.integers(len(maps))]), without_tumour(host)
        made = None if shape is None or covered is None else place(covered, shape, donor, rng)
        if made is not None:
            return made


def make_phantom(number: int, seed: int) -> PackedStudy:
    """A phantom at 1 mm, scanned once; named as if it were made of itself alone."""
    kind = KINDS[number % len(KINDS)]
    shares = torch.from_numpy(make_shares(kind, [seed, number]))
    image, target = (part[0].numpy() for part in draw_phantoms(shares[None], [seed * 1_000_003 + number]))
    labels = regions_of().compose({region: target[r] >= 0.5 for r, region in enumerate(regions_of())}, DEFAULT_SCHEMA)
    levels = np.clip(np.rint(image * LEVELS_PER_STD), -127, 127).astype(np.int8)
    return PackedStudy(f"phantom{number:03d}_{kind.value}", levels, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("shapes", "phantoms"))
    parser.add_argument("packs", type=Path, nargs="?")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--maps", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--count", type=int, default=140)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "shapes":
        by_id = {pack.id: pack for pack in load_packs(given.packs)}
        folds = [[by_id[study] for study in ids] for ids in json.loads(given.split.read_text())["folds"]]
        with lzma.open(given.maps) as stream:
            maps = np.load(stream)
    for number in range(given.count):
        done = list(given.out.glob(f"{given.what[:-1]}{number:03d}*.npz"))
        if done:
            continue
        if given.what == "phantoms":
            made = make_phantom(number, given.seed)
        else:
            made = make_shape(folds, maps, np.random.default_rng([given.seed, number]))
            made = PackedStudy(f"shape{number:03d}", made.image, made.labels, made.made_of)
        print(write_pack(made, given.out).name, *made.made_of, flush=True)


if __name__ == "__main__":
    main()
