"""How growing masses push tissue: a smooth, invertible flow that the skull bounds and CSF spaces give way to.

Tissue is taken as an incompressible medium that a source in each mass drives outwards and that loses fluid where
there is CSF, so ventricles and sulci near a tumour narrow and the midline gives way, while nothing passes the skull:

    ``v = -grad p``,  ``div v = source - leak * csf * p``,  no flow through the surface of the brain.

It is a poroelastic medium at rest (Darcy's law; for brain tissue see Nagashima et al., J Neurosurg 1987;66:413,
doi:10.3171/jns.1987.66.3.0413) without its elastic part, chosen because a velocity field that stands still for a unit
of time moves every point along a path, so that the map is smooth, invertible and keeps the order of tissues
(determinant above 0; Arsigny et al., MICCAI 2006, doi:10.1007/11866565_113, whose scaling and squaring is used).
By the divergence theorem the source's strength is the volume that is pushed aside.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Floats, Grid, grid_between
from brats_seg.phantom.anatomy import Anatomy
from brats_seg.phantom.objects import points_of

STEP_MM = 4.0
"""Voxels of the grid on which the flow is computed."""
LEAK_PER_MM2 = 0.03
"""How readily CSF gives way: pressure dies off over about ``1/sqrt(leak)``, 6 mm, of pure CSF."""
SQUARINGS = 6
"""The flow is followed in ``2^6`` steps."""


@dataclass(frozen=True)
class Mass:
    """What pushes.

    Attributes:
        centre_mm: RAS+.
        radius_mm: of the ball the push comes from; what lies outside the brain pushes nothing.
        pushed_ml: volume of tissue that has to make room.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    pushed_ml: float


@dataclass(frozen=True, eq=False)
class Flow:
    """A displacement on a lattice.

    Attributes:
        lattice: RAS grid of ``backward``.
        backward: ``(3, X, Y, Z)`` mm, from where tissue is now to where it was.
        least_determinant: smallest volume change of ``backward`` on the lattice; above 0.
    """

    lattice: Grid
    backward: Floats
    least_determinant: float

    def origin_mm(self, points_mm: Floats) -> Floats:
        """Where the tissue now at ``points_mm`` ``(..., 3)`` came from."""
        voxels = np.moveaxis(self.lattice.to_voxel(points_mm), -1, 0)
        shift = [ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in self.backward]
        result: Floats = points_mm + np.stack(shift, -1)
        return result


class BrainSpace:
    """The space masses push in: prepared once per brain."""

    def __init__(self, anatomy: Anatomy) -> None:
        """Take the brain and its CSF, on any RAS grid of 4 mm or finer, to the grid of the flow."""
        corners = anatomy.grid.to_world(anatomy.grid.corners())
        self.grid = grid_between(corners.min(0) - STEP_MM, corners.max(0) + STEP_MM, STEP_MM)
        points = points_of(self.grid)
        voxels = np.moveaxis(anatomy.grid.to_voxel(points), -1, 0)
        sigma = 0.4 * STEP_MM / np.array(anatomy.grid.spacing_mm)
        brain, csf = (
            ndimage.map_coordinates(ndimage.gaussian_filter(values, sigma), voxels, order=1, mode="constant")
            for values in (anatomy.brain.astype(np.float32), anatomy.csf)
        )
        self.brain: NDArray[np.bool_] = brain >= 0.5
        self._points = points[self.brain]
        self._number = np.full(self.grid.shape, -1)
        self._number[self.brain] = np.arange(int(self.brain.sum()))
        # squared: where CSF and tissue share a voxel of this coarse grid, mostly the tissue would be squeezed
        csf = np.clip(csf / np.maximum(brain, 0.5), 0.01, 1)[self.brain] ** 2
        self._matrix, self._pairs = self._operator(csf)

    def push(self, masses: Sequence[Mass]) -> Flow:
        """The displacement of all masses together.

        Raises:
            ValueError: if there is no mass.
            InputError: if one lies outside the brain, or the map folds.
        """
        if not masses:
            raise ValueError("without a mass nothing is pushed")
        source = np.sum([self._source(mass) for mass in masses], axis=0)
        pressure, failed = cg(self._matrix, source, rtol=1e-5, maxiter=2000)
        if failed:
            raise InputError("the pressure around the masses was not found; their volumes may be out of all proportion")
        velocity = self._velocity(pressure)
        backward = exponential(-velocity / STEP_MM) * STEP_MM
        least = least_determinant(backward / STEP_MM)
        if least <= 0:
            raise InputError(
                f"masses that push {sum(m.pushed_ml for m in masses):.0f} ml fold the tissue; make them smaller"
            )
        return Flow(self.grid, backward, least)

    def _operator(self, csf: Floats) -> tuple[sparse.csr_matrix, list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
        """The negative Laplacian without flow through the surface, plus the leak."""
        count = len(csf)
        diagonal = LEAK_PER_MM2 * csf
        pairs, rows, columns = [], [], []
        for axis in range(3):
            numbers = np.moveaxis(self._number, axis, 0)
            first, second = numbers[:-1], numbers[1:]
            both = (first >= 0) & (second >= 0)
            here, there = first[both], second[both]
            pairs.append((here, there))
            diagonal = (
                diagonal + (np.bincount(here, minlength=count) + np.bincount(there, minlength=count)) / STEP_MM**2
            )
            rows += [here, there]
            columns += [there, here]
        r, c = np.concatenate(rows), np.concatenate(columns)
        off = sparse.csr_matrix((np.full(len(r), -1 / STEP_MM**2), (r, c)), shape=(count, count))
        return sparse.csr_matrix(off + sparse.diags(diagonal)), pairs

    def _source(self, mass: Mass) -> Floats:
        """1/unit time in each brain voxel; its integral is the pushed volume."""
        away = np.linalg.norm(self._points - np.array(mass.centre_mm), axis=1)
        edge = max(mass.radius_mm, 0.75 * STEP_MM)
        weight = 1 / (1 + np.exp((away - edge) / (0.1 * edge + 0.5)))
        weight[away > 2.5 * edge] = 0
        if weight.sum() <= 0:
            raise InputError(f"a mass at {mass.centre_mm} mm lies outside the brain")
        strength: Floats = weight * (mass.pushed_ml * 1000 / (weight.sum() * STEP_MM**3))
        return strength

    def _velocity(self, pressure: Floats) -> Floats:
        """``(3, X, Y, Z)`` mm per unit time: fluxes through faces, averaged in voxels, carried on outside the brain."""
        velocity = np.zeros((3, *self.grid.shape))
        for axis, (here, there) in enumerate(self._pairs):
            flux = (pressure[here] - pressure[there]) / STEP_MM
            total = np.zeros(len(pressure))
            np.add.at(total, here, flux)
            np.add.at(total, there, flux)
            velocity[axis][self.brain] = total / 2
        nearest = ndimage.distance_transform_edt(~self.brain, return_distances=False, return_indices=True)
        smooth = [ndimage.gaussian_filter(part[tuple(nearest)], 0.6) for part in velocity]
        return np.stack(smooth)


def exponential(velocity: Floats) -> Floats:
    """Displacement after a unit of time in a velocity field that stands still, by scaling and squaring.

    Args:
        velocity: ``(3, X, Y, Z)`` in voxels per unit time.
    """
    displacement: Floats = velocity / 2**SQUARINGS
    identity = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in velocity.shape[1:]], indexing="ij"))
    for _ in range(SQUARINGS):
        places = identity + displacement
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(part, places, order=1, mode="nearest") for part in displacement]
        )
    return displacement


def least_determinant(displacement: Floats) -> float:
    """Smallest determinant of the Jacobian of ``x + displacement(x)``, over the eight corners of every cell.

    Args:
        displacement: ``(3, X, Y, Z)`` in voxels, trilinear between lattice points. Within a cell the columns of its
            Jacobian are means of the differences along the cell's edges, so positive corners with room to spare mean
            a positive inside.
    """
    identity = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in displacement.shape[1:]], indexing="ij"))
    places = identity + displacement
    edges = [np.moveaxis(np.diff(places, axis=axis + 1), 0, -1) for axis in range(3)]
    least = np.inf
    for i, j, k in itertools.product((slice(None, -1), slice(1, None)), repeat=3):
        jacobian = np.stack([edges[0][:, j][:, :, k], edges[1][i][:, :, k], edges[2][i][:, j]], -1)
        least = min(least, float(np.linalg.det(jacobian).min()))
    return least
