"""Small random models, assembled the way trained ones are."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from brats_seg.models.card import ModelBundle, ModelCard, find_model
from brats_seg.models.rules import PostprocessConfig
from brats_seg.models.stage import Stage
from brats_seg.networks.configs import AttentionUNetConfig

NETWORK = AttentionUNetConfig(widths=(8, 16), depths=(1, 1))
SPACING_MM = {"coarse": 2.0, "fine": 1.0}


def small_network(name: str, *, cascaded: bool) -> AttentionUNetConfig:
    """The shape of a stage; where it is ``cascaded``, a fine one takes the probabilities of the coarse one."""
    return replace(NETWORK, in_channels=7) if cascaded and name == "fine" else NETWORK


def small_card(
    stages: tuple[str, ...], post: PostprocessConfig, *, prepared_mm: float = 1.0, cascaded: bool = False
) -> ModelCard:
    networks = {name: asdict(small_network(name, cascaded=cascaded)) for name in stages}
    return replace(
        find_model("glioma").card,
        name="small",
        version="0.0.1",
        description="random weights",
        licence="Apache-2.0",
        trained_on="nothing",
        seen=(),
        fingerprints={},
        subsets={},
        held_out=("a", "b"),
        limits=("everything",),
        citations=(),
        accuracy={"Dice WT": 0.0},
        prepare={"divisor": 8} | ({} if prepared_mm == 1.0 else {"spacing_mm": prepared_mm}),
        postprocess=post,
        intervals=None,
        stages=tuple(Stage(name, prepared_mm * SPACING_MM[name], networks[name], {}) for name in stages),
    )


def small_model(
    folder: Path,
    *,
    stages: tuple[str, ...] = ("coarse", "fine"),
    onnx: bool = False,
    post: PostprocessConfig | None = None,
    bias: float = 0.0,
    seed: int = 0,
    cascaded: bool = False,
) -> ModelBundle:
    """A model of random networks in half precision, with the logits shifted by ``bias``."""
    import torch
    from safetensors.torch import save_file

    from brats_seg.models.assemble import write_model
    from brats_seg.networks.attention_unet import AttentionUNet

    weights: dict[str, Path] = {}
    for number, name in enumerate(stages):
        torch.manual_seed(number + 1000 * seed)
        network = AttentionUNet(small_network(name, cascaded=cascaded))
        state = {key: value.half() for key, value in network.state_dict().items()}
        head = [key for key in state if key.startswith("head.") and key.endswith("bias")]
        for key in head:
            state[key] = state[key] + bias
        weights[name] = folder.parent / f"{folder.name}-{name}.safetensors"
        save_file(state, weights[name])
    card = small_card(stages, post or PostprocessConfig(), cascaded=cascaded)
    return write_model(weights, card, folder, onnx=onnx)
