"""Small masks and label maps with known answers, and generators of random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import affine_of

from brats_seg.core.grid import Volume

SHAPE = (40, 20, 20)


def box(*places, shape=SHAPE):
    """Boxes as (start, size) pairs, in voxels, together in one mask."""
    mask = np.zeros(shape, bool)
    for start, size in places:
        mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def label_map(centre, radius, *, shape=(32, 36, 28), enhancing=3, spacing_mm=(1.0, 1.0, 1.0), orientation="RAS"):
    """Necrosis inside an enhancing rim inside edema; a radius of 0 gives an empty map."""
    points = np.stack(np.indices(shape), -1) * np.asarray(spacing_mm)
    distance = np.linalg.norm(points - np.asarray(centre, float), axis=-1)
    labels = np.zeros(shape, np.uint8)
    labels[distance < radius] = 2
    labels[distance < 0.7 * radius] = enhancing
    labels[distance < 0.4 * radius] = 1
    return Volume.from_affine(labels, affine_of(orientation, spacing_mm, (-15.0, 20.0, 5.0)))


small_masks = hnp.arrays(np.bool_, (6, 5, 4), elements=st.sampled_from([False, False, False, True]))
mask_pairs = st.tuples(small_masks, small_masks)
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 3.0])] * 3)
