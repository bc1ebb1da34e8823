"""The preparation of :mod:`brats_seg.segment.prepare` as MONAI transforms, and a model as one PyTorch network.

For training, for a GPU, and for MONAI bundles, whose ``configs/inference.json`` puts these between MONAI's own dataset,
evaluator and file writer: ``python -m monai.bundle run`` then goes the way of ``brats-seg segment``, through the same
functions. Images are ``MetaTensor``, channels first, with the affine of a :class:`~brats_seg.core.grid.Grid`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from numpy.typing import NDArray
from torch import nn

from brats_seg.core.grid import Grid, Volume
from brats_seg.core.scans import PreparationRecord, PreparedStudy, Study
from brats_seg.core.visit import RegionMaps
from brats_seg.imaging.register import Order, resample
from brats_seg.imaging.restore import move
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import ModelBundle, card_from_dict
from brats_seg.models.engine import in_card_order
from brats_seg.models.torch_engine import NetworkEngine, stage_network
from brats_seg.segment.postprocess import segment
from brats_seg.segment.predict import Predictor
from brats_seg.segment.prepare import crop_and_pad, prepare, respaced


class _Move(MapTransform, InvertibleTransform):  # type: ignore[misc]  # MONAI has no types
    """A step that lays images on another grid; its inverse lays what became of them back on the grid they had.

    Args:
        keys: of the images.
        labels: of those keys, the ones that hold labels: they are never interpolated.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self, keys: Sequence[Hashable], *, labels: Sequence[Hashable] = (), allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.labels = frozenset(labels)

    def _step(self, image: MetaTensor, data: Mapping[Hashable, Any], *, is_labels: bool) -> list[Volume]:
        """The channels of an image on their new grid."""
        raise NotImplementedError

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The images on their new grid; everything else as it is."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = data[key]
            moved = self._step(image, data, is_labels=key in self.labels)
            result[key] = _like(image, np.stack([volume.data for volume in moved]), moved[0].grid)
            before = {"shape": tuple(image.shape[1:]), "affine": np.array(image.affine)}
            self.push_transform(result[key], orig_size=before["shape"], extra_info=before)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The images on the grid they had, 0 where the step had cut something off."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            before = self.pop_transform(image)["extra_info"]
            grid = Grid(before["shape"], np.asarray(before["affine"], np.float64))
            array = image.detach().cpu().numpy()
            result[key] = _like(image, move(array, _grid(image), grid, order=0 if key in self.labels else 1), grid)
        return result


class TurnToRASd(_Move):
    """Store images along axes that run to the right, anterior and superior; nothing is interpolated."""

    def _step(self, image: MetaTensor, data: Mapping[Hashable, Any], *, is_labels: bool) -> list[Volume]:
        return [volume.to_ras() for volume in _volumes(image)]


class Respaced(_Move):
    """Resample images to cubic voxels.

    Args:
        keys: of the images.
        spacing_mm: side of the voxels.
        labels: see :class:`TurnToRASd`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(self, keys: Sequence[Hashable], spacing_mm: float = 1.0, **options: Any) -> None:
        super().__init__(keys, **options)
        self.spacing_mm = spacing_mm

    def _step(self, image: MetaTensor, data: Mapping[Hashable, Any], *, is_labels: bool) -> list[Volume]:
        grid = respaced(_grid(image), self.spacing_mm)
        order: Order = "nearest" if is_labels else "linear"
        return [resample(volume, grid, order=order, fill=0.0) for volume in _volumes(image)]


class CropToBraind(_Move):
    """Cut images to the box of the brain and pad them with 0 on both sides.

    Args:
        keys: of the images, all on one grid.
        brain: key of ``(1, X, Y, Z)``, not 0 in the brain; may be among ``keys``.
        margin: voxels kept around the brain.
        divisor: sides become multiples of it.
        labels: see :class:`TurnToRASd`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self, keys: Sequence[Hashable], brain: Hashable, *, margin: int = 2, divisor: int = 32, **options: Any
    ) -> None:
        super().__init__(keys, **options)
        self.brain, self.config = brain, PrepareConfig(margin=margin, divisor=divisor)

    def _step(self, image: MetaTensor, data: Mapping[Hashable, Any], *, is_labels: bool) -> list[Volume]:
        brain = np.asarray(data[self.brain])[0] != 0
        array, grid = crop_and_pad(np.asarray(image), brain, _grid(image), self.config)
        return [Volume(channel, grid) for channel in array]


class StagedNetwork(nn.Module):
    """All stages of a model as one network, from prepared sequences to probabilities.

    ``(B, 4, X, Y, Z)`` z-scores in the order T1, T1CE, T2, FLAIR along RAS axes at the card's preparation spacing give
    ``(B, 3, X, Y, Z)`` probabilities of WT, TC, ET, nested. Sides are multiples of the card's ``prepare.divisor``.

    Args:
        card: plain values of a model card.

    Raises:
        ModelError: if the card cannot be understood.
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.card = card_from_dict(card, where="the bundle's model card")
        self.stages = nn.ModuleDict({stage.key: stage_network(stage) for stage in self.card.stages})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities; nothing is known of the brain's outline here, so :class:`RestoreStudy` applies it."""
        device = str(next(self.parameters()).device)
        engines = {
            stage.key: in_card_order(NetworkEngine(self.stages[stage.key], device), self.card.arrangement(stage))
            for stage in self.card.stages
        }
        predictor = Predictor(ModelBundle(self.card, Path()), engine="torch", device=device, engines=engines)
        found = [predictor.predict(self._as_study(one)).probabilities.array for one in image.detach().cpu().numpy()]
        return torch.from_numpy(np.stack(found)).to(image.device)

    def _as_study(self, array: NDArray[np.float32]) -> PreparedStudy:
        spacing_mm = PrepareConfig(**self.card.prepare).spacing_mm
        x, y, z = array.shape[1:]
        grid = Grid((x, y, z), np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
        plain = np.ascontiguousarray(array, dtype=np.float32)
        record = PreparationRecord(native=grid, network=grid)
        return PreparedStudy("batch", plain, np.ones((x, y, z), bool), self.card.sequences, record, self.card.sequences)


class PrepareStudy:
    """Transform: a :class:`~brats_seg.core.scans.Study` to ``image`` ``(1, 4, X, Y, Z)``, ``prepared``, ``study``.

    Args:
        settings: of the card's preparation.
        force: accept scans that do not look skull-stripped.
    """

    def __init__(self, settings: Mapping[str, Any], *, force: bool = False) -> None:
        self.config = PrepareConfig(**settings)
        self.force = force

    def __call__(self, study: Study) -> dict[str, Any]:
        """Prepare one study; errors as for :func:`~brats_seg.segment.prepare.prepare`."""
        prepared = prepare(study, config=self.config, force=self.force)
        return {"image": torch.from_numpy(prepared.array)[None], "prepared": prepared}


class RestoreStudy:
    """Transform: network output to ``pred``, the label map, and ``probabilities``, on the reference file's grid.

    Args:
        card: plain values of the model card, for its post-processing.
        labels: schema of the label map; None for the first of the card.
    """

    def __init__(self, card: Mapping[str, Any], labels: str | None = None) -> None:
        self.card = card_from_dict(card, where="the bundle's model card")
        self.schema = self.card.schema(labels)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """``pred`` ``(1 or none, R, X, Y, Z)`` on the network's grid becomes ``(1, x, y, z)`` and ``(R, x, y, z)``."""
        prepared: PreparedStudy = data["prepared"]
        shape = (len(self.card.regions), *prepared.grid.shape)
        array = torch.as_tensor(data["pred"]).detach().cpu().numpy().reshape(shape)
        inside = (array * prepared.brain).astype(np.float32)
        maps = RegionMaps(inside, prepared.grid, self.card.regions)
        found = segment(maps, prepared, self.schema, self.card.postprocess)
        labels, grid = found.segmentation.labels, found.segmentation.labels.grid
        return {
            **data,
            "pred": _image(labels.data[None], grid, prepared.id),
            "probabilities": _image(found.probabilities.array, grid, prepared.id),
            "notes": (*found.warnings, *found.decisions),
        }


def _grid(image: MetaTensor) -> Grid:
    x, y, z = (int(n) for n in image.shape[1:])
    return Grid((x, y, z), np.asarray(image.affine, np.float64))


def _volumes(image: MetaTensor) -> list[Volume]:
    return [Volume(channel, _grid(image)) for channel in image.detach().cpu().numpy()]


def _like(image: MetaTensor, array: NDArray[Any], grid: Grid) -> MetaTensor:
    """Other values on another grid, with the history and the names of an image."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(image.device)
    meta = {**image.meta, "affine": torch.from_numpy(grid.affine.copy())}
    return MetaTensor(tensor, meta=meta, applied_operations=list(image.applied_operations))


def _image(array: NDArray[Any], grid: Grid, name: str) -> MetaTensor:
    """A channel-first image that MONAI's writer saves under the study's name."""
    tensor = torch.from_numpy(np.array(array))  # a copy: label maps are read-only
    return MetaTensor(tensor, affine=torch.from_numpy(grid.affine.copy()), meta={"filename_or_obj": f"{name}.nii.gz"})
