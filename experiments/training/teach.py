"""Keep what a teacher finds in packed studies: ``OUT/<id>.npz`` for every pack, those that are there are kept.

    python experiments/training/teach.py PACKS -o OUT --program teacher.py [--bf16] [--threads 1] [--device cuda]

The program is a Python file with ``probabilities(images, *, bf16, device)``: four images by sequence name, axes towards
left, posterior and superior, 0 outside the brain, to ``(3, X, Y, Z)`` probabilities of WT, TC and ET. What is kept is
read again by ``brats-seg train --teacher OUT``: uint8, 255 times the probability, on the grid of the pack.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from programs import load_function

from brats_seg.core.study import SEQUENCES
from brats_seg.train.data import LEVELS_PER_STD, PackedStudy, read_pack, write_taught

Teacher = Callable[..., NDArray[np.float32]]
ABOVE = 10.0
"""Standard deviations added to z-scores, so that the brain is above 0; a teacher that standardises minds no shift."""


def ask(teacher: Teacher, pack: PackedStudy, **options: Any) -> NDArray[np.uint8]:
    """What a teacher finds in a pack, uint8 ``(3, X, Y, Z)``: 255 times the probability."""
    brain = (pack.image != 0).any(axis=0)
    turned = np.s_[::-1, ::-1]  # packs look right, anterior, superior
    images = {}
    for sequence, levels in zip(SEQUENCES, pack.image, strict=True):
        image = np.where(brain, levels.astype(np.float32) / LEVELS_PER_STD + ABOVE, 0.0).astype(np.float32)
        images[sequence.value] = np.ascontiguousarray(image[turned])
    found = teacher(images, **options)[:, ::-1, ::-1]
    return np.rint(255 * found).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path, help="folder of packs")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    teacher = load_function(given.program, "probabilities")
    for path in sorted(given.packs.glob("*.npz")):
        if (given.out / path.name).exists():
            continue
        used = time.process_time()
        found = ask(teacher, read_pack(path), bf16=given.bf16, device=given.device)
        write_taught(found, given.out / path.name)
        print(f"{path.stem}: {time.process_time() - used:.0f} core-s", flush=True)


if __name__ == "__main__":
    main()
