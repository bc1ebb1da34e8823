"""The program as parts of a MONAI bundle: a network of all stages, and the transforms before and after it.

A bundle's ``configs/inference.json`` puts these between MONAI's own dataset, evaluator and file writer, so that
``python -m monai.bundle run`` goes the way of ``brats-seg segment``, through the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import nn

from brats_seg.core.grid import Grid
from brats_seg.core.regions import REGIONS, schema_named
from brats_seg.core.study import SEQUENCES, PreparationRecord, PreparedStudy, Study
from brats_seg.core.visit import RegionMaps
from brats_seg.imaging.settings import PrepareConfig
from brats_seg.models.card import ModelBundle, card_from_dict
from brats_seg.models.engine import in_project_order
from brats_seg.models.torch_engine import NetworkEngine, stage_network
from brats_seg.segment.postprocess import segment
from brats_seg.segment.predict import Predictor
from brats_seg.segment.prepare import prepare


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
            stage.key: in_project_order(NetworkEngine(self.stages[stage.key], device), stage.layout)
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
        return PreparedStudy("batch", plain, np.ones((x, y, z), bool), SEQUENCES, record)


class PrepareStudy:
    """Transform: a :class:`~brats_seg.core.study.Study` to ``image`` ``(1, 4, X, Y, Z)``, ``prepared``, ``study``.

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
        labels: schema of the label map, ``brats2023`` or ``brats2021``.
    """

    def __init__(self, card: Mapping[str, Any], labels: str = "brats2023") -> None:
        self.post = card_from_dict(card, where="the bundle's model card").postprocess
        self.schema = schema_named(labels)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """``pred`` ``(1 or none, 3, X, Y, Z)`` on the network's grid becomes ``(1, x, y, z)`` and ``(3, x, y, z)``."""
        prepared: PreparedStudy = data["prepared"]
        array = torch.as_tensor(data["pred"]).detach().cpu().numpy().reshape(len(REGIONS), *prepared.grid.shape)
        inside = (array * prepared.brain).astype(np.float32)
        found = segment(RegionMaps(inside, prepared.grid), prepared, self.schema, self.post)
        labels, grid = found.segmentation.labels, found.segmentation.labels.grid
        return {
            **data,
            "pred": _image(labels.data[None], grid, prepared.id),
            "probabilities": _image(found.probabilities.array, grid, prepared.id),
            "notes": (*found.warnings, *found.decisions),
        }


def _image(array: NDArray[Any], grid: Grid, name: str) -> MetaTensor:
    """A channel-first image that MONAI's writer saves under the study's name."""
    tensor = torch.from_numpy(np.array(array))  # a copy: label maps are read-only
    return MetaTensor(tensor, affine=torch.from_numpy(grid.affine.copy()), meta={"filename_or_obj": f"{name}.nii.gz"})
