"""Phantoms: studies whose truth is known, and reference objects whose volume a formula gives."""

from brats_seg.phantom.acquire import AcquisitionConfig, acquire
from brats_seg.phantom.anatomy import Anatomy, AnatomyConfig, draw_person, make_anatomy
from brats_seg.phantom.make import (
    BRATS_GRID,
    Patient,
    Phantom,
    PhantomConfig,
    make_patient,
    make_phantom,
    scan_patient,
)
from brats_seg.phantom.objects import Blob, Box, Ellipsoid, Pair, Shape, Shell, pair_of_spheres, sphere
from brats_seg.phantom.tumour import Lesion, TumourConfig, TumourKind

__all__ = [
    "BRATS_GRID",
    "AcquisitionConfig",
    "Anatomy",
    "AnatomyConfig",
    "Blob",
    "Box",
    "Ellipsoid",
    "Lesion",
    "Pair",
    "Patient",
    "Phantom",
    "PhantomConfig",
    "Shape",
    "Shell",
    "TumourConfig",
    "TumourKind",
    "acquire",
    "draw_person",
    "make_anatomy",
    "make_patient",
    "make_phantom",
    "pair_of_spheres",
    "scan_patient",
    "sphere",
]
