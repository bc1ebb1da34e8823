"""How a head is turned against upright: its brain is registered to a template that lies as brains of BraTS do.

Template: MNI152, Fonov et al., NeuroImage 2011;54:313 (doi:10.1016/j.neuroimage.2010.07.033), see mni152.LICENSE.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import SimpleITK as sitk  # noqa: N813

from brats_seg.core.grid import Floats, Grid, Volume
from brats_seg.core.scans import RigidMotion
from brats_seg.imaging.itk import from_itk
from brats_seg.imaging.midplane import find_midplane
from brats_seg.imaging.register import RegistrationConfig, register_rigid, rotation_deg

TEMPLATE_FILE = "mni152.nii.gz"

FAR_DEG = 15.0
"""Heads that lie turned by less stay as they are. Told exactly how they lie, studies turned by 7 and 13 degrees gain
0.007 Dice at most, and those beyond up to 0.091 (``experiments/poses``)."""

AGREEMENT_DEG = 5.0
"""The midplane of the outline and that of the template must lie within so much of one another."""

MIN_COVERED = 0.9
"""Overlap of brain and template, scaled to one volume, below which the registration is in doubt. Eight brains
turned by up to 44 degrees: 0.92 to 0.95."""

_SEARCH = RegistrationConfig(levels_mm=(8.0,), samples=(15_000,), iterations=(100,))
"""One coarse level: finer ones change the turn by less than people differ."""


@dataclass(frozen=True, eq=False)
class Turn:
    """How a head lies.

    Attributes:
        rotation: 3x3, directions along the axes of the scan's grid to right, anterior and superior of an upright head.
        doubt: why it is not to be relied on, in words; empty where it is.
    """

    rotation: Floats
    doubt: str

    @property
    def degrees(self) -> float:
        """The angle between the head and an upright one."""
        return rotation_deg(self.rotation)

    @property
    def is_far(self) -> bool:
        """The head lies turned by more than :data:`FAR_DEG`."""
        return self.degrees > FAR_DEG


def find_turn(brain: Volume) -> Turn:
    """How far a head is turned against upright.

    Args:
        brain: a scan of the whole brain, 0 outside; voxels of 4 mm tell as much as finer ones.

    Raises:
        InputError: if the scan is 0 everywhere.
    """
    brain = Volume(brain.data, Grid(brain.grid.shape, np.diag([*brain.grid.spacing_mm, 1.0])))
    found = register_upright(brain, read_template())
    turn = Turn(found.matrix[:3, :3], "")
    return Turn(turn.rotation, _doubt(turn, found, brain)) if turn.is_far else turn


def read_template() -> Volume:
    """The template, 0 outside the brain."""
    with as_file(files("brats_seg.imaging").joinpath(TEMPLATE_FILE)) as path:
        return from_itk(sitk.ReadImage(str(path)))


def register_upright(brain: Volume, template: Volume) -> RigidMotion:
    """The motion that lays a template, scaled to the volume of the brain, on it."""
    volumes = [float(np.count_nonzero(v.data)) * v.grid.voxel_ml for v in (brain, template)]
    scale = np.diag([*[np.cbrt(volumes[0] / volumes[1])] * 3, 1.0])
    scaled = Volume(template.data, Grid(template.grid.shape, scale @ template.affine))
    return register_rigid(scaled, brain, config=_SEARCH)


def _doubt(turn: Turn, found: RigidMotion, brain: Volume) -> str:
    if found.overlap < MIN_COVERED:
        return f"the template of an upright brain covers only {found.overlap:.0%} of it"
    midplane = find_midplane(brain.data != 0, brain.grid)
    if midplane is None:
        return "its outline has no midplane"
    apart = np.degrees(np.arccos(min(float((turn.rotation @ np.array(midplane.normal))[0]), 1.0)))
    return f"its midplane lies {apart:.0f} degrees off the template's" if apart > AGREEMENT_DEG else ""
