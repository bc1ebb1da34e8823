"""SegResNet: MONAI's own network behind a configuration, and networks by name."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet as MonaiSegResNet

from brats_seg.networks.attention_unet import AttentionUNetConfig
from brats_seg.networks.registry import ARCHITECTURES, make_network, network_config, relative_memory
from brats_seg.networks.segresnet import SegResNet, SegResNetConfig

SMALL = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}


def test_defaults_are_the_published_network() -> None:
    names = {name: value.shape for name, value in SegResNet().state_dict().items()}
    published = MonaiSegResNet(
        blocks_down=[1, 2, 2, 4], blocks_up=[1, 1, 1], init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    )
    assert names == {name: value.shape for name, value in published.state_dict().items()}
    assert SegResNetConfig().divisor == 8


@pytest.mark.parametrize("mode", ["nontrainable", "deconv", "pixelshuffle"])
def test_monai_weights_give_monai_results(mode: str) -> None:
    torch.manual_seed(0)
    theirs = MonaiSegResNet(
        blocks_down=[1, 1], blocks_up=[1], init_filters=8, in_channels=4, out_channels=3, upsample_mode=mode
    ).eval()
    ours = SegResNet(SegResNetConfig.from_dict({**SMALL, "upsample_mode": mode})).eval()
    x = torch.randn(1, 4, 8, 6, 4)
    with torch.inference_mode():
        before = ours(x)
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(x), theirs(x))
        assert not torch.equal(ours(x), before)


def test_configurations_read_back() -> None:
    for architecture in ARCHITECTURES:
        config = network_config(architecture, {})
        assert network_config(architecture, config.to_dict()) == config
    assert network_config("attention_unet", {}) == AttentionUNetConfig()
    assert make_network("segresnet", SMALL).config == SegResNetConfig(4, 3, 8, (1, 1), (1,))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"init_filters": 12}, "init_filters 12 must be a multiple of 8"),
        ({"init_filters": 0}, "whole positive numbers"),
        ({"out_channels": -1}, "whole positive numbers"),
        ({"blocks_down": [1, 0], "blocks_up": [1]}, "whole positive numbers"),
        ({"blocks_up": [1, 1]}, "one shorter"),
        ({"blocks_down": [1], "blocks_up": []}, "one shorter"),
        ({"dropout_prob": 1.0}, "dropout_prob"),
        ({"upsample_mode": "magic"}, "upsample_mode 'magic'"),
    ],
)
def test_shapes_that_make_no_network_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network_config("segresnet", wrong)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="known: attention_unet, segresnet"):
        network_config("unet", {})
    with pytest.raises(TypeError, match="colour"):
        network_config("segresnet", {"colour": 1})


def test_wider_networks_need_more_memory() -> None:
    assert relative_memory("attention_unet", {}) == 1.0
    assert 1.0 < relative_memory("segresnet", {"init_filters": 8}) < relative_memory("segresnet", {})
    # one pass of the published network took 383 bytes a voxel where the attention U-Net is counted with 150
    assert relative_memory("segresnet", {}) * 150 >= 383
