"""SegResNet: MONAI's own network behind a configuration, and networks by name."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet as MonaiSegResNet

from brats_seg.core.plain import plain
from brats_seg.networks.attention_unet import AttentionUNetConfig
from brats_seg.networks.registry import ARCHITECTURES, make_network, network_config
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
    ours = make_network("segresnet", {**SMALL, "upsample_mode": mode}).eval()
    x = torch.randn(1, 4, 8, 6, 4)
    with torch.inference_mode():
        before = ours(x)
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(x), theirs(x))
        assert not torch.equal(ours(x), before)


def test_configurations_read_back() -> None:
    for architecture in ARCHITECTURES:
        config = network_config(architecture, {})
        assert network_config(architecture, plain(config)) == config
    assert network_config("attention_unet", {}) == AttentionUNetConfig()
    assert make_network("segresnet", SMALL).config == SegResNetConfig(4, 3, 8, (1, 1), (1,))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"init_filters": 12}, "init_filters 12 must be a multiple of 8"),
        ({"init_filters": 0}, "whole numbers from 1"),
        ({"out_channels": -1}, "whole numbers from 1"),
        ({"blocks_down": [1, 0], "blocks_up": [1]}, "whole numbers from 1"),
        ({"blocks_up": [1, 1]}, "one shorter"),
        ({"blocks_down": [1], "blocks_up": []}, "blocks_up .. must be a list of 1 to 8"),
        ({"blocks_down": 5}, "must be a list"),
        ({"init_filters": 8.0}, "whole numbers"),
        ({"init_filters": 2**40}, "whole numbers from 1 to 4096"),
        ({"dropout_prob": "x"}, "must be a number"),
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


@pytest.mark.parametrize(
    ("architecture", "values", "grew_by"),
    [
        ("attention_unet", {}, 151),
        ("attention_unet", {"in_channels": 7}, 197),
        ("attention_unet", {"widths": [16, 24, 48, 80]}, 104),
        ("attention_unet", {"widths": [64, 96, 192, 320]}, 297),
        ("attention_unet", {"in_channels": 7, "widths": [64, 96, 192, 320]}, 281),
        ("attention_unet", {"widths": [128, 160, 192, 320]}, 544),
        ("attention_unet", {"expansion": 4.0}, 184),
        ("attention_unet", {"widths": [64, 64, 64], "depths": [3, 1, 1], "expansion": 4}, 385),
        ("segresnet", {"init_filters": 8}, 218),
        ("segresnet", {}, 356),
        ("segresnet", {"init_filters": 32}, 826),
        ("segresnet", {"init_filters": 64}, 1408),
    ],
)
def test_memory_of_a_pass_is_what_was_measured(architecture: str, values: dict[str, object], grew_by: float) -> None:
    """By how many bytes per voxel the process grew over one pass (PyTorch, one thread); the estimate lies above."""
    estimate = 150 * network_config(architecture, values).relative_memory
    assert 0.99 * grew_by <= estimate <= 1.3 * grew_by


def test_memory_is_counted_in_passes_of_the_shipped_network() -> None:
    assert network_config("attention_unet", {}).relative_memory == 1.0
