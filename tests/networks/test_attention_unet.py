"""The network: its size, its shapes, and that every setting and every parameter does something."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from brats_seg.core.plain import plain
from brats_seg.networks.attention_unet import AttentionGate, AttentionUNet, AttentionUNetConfig, Conv3d, FusedMBConv
from brats_seg.networks.registry import network_config

TINY = AttentionUNetConfig(widths=(8, 16), depths=(1, 1))
THREE = AttentionUNetConfig(widths=(8, 16, 24), depths=(1, 1, 1))


def size(config: AttentionUNetConfig) -> int:
    return sum(p.numel() for p in AttentionUNet(config).parameters())


def test_the_shipped_network_is_small_enough_for_a_laptop() -> None:
    assert 1_000_000 < size(AttentionUNetConfig()) <= 5_000_000


@pytest.mark.parametrize("sides", [(4, 12, 20), (4, 4, 4), (28, 4, 12)])
def test_output_has_the_shape_of_the_input_at_odd_multiples_of_the_divisor(sides: tuple[int, int, int]) -> None:
    assert TINY.divisor == 4
    with torch.inference_mode():
        assert AttentionUNet(TINY)(torch.zeros(2, 4, *sides)).shape == (2, 3, *sides)


def test_deep_outputs_halve_from_a_quarter_on() -> None:
    config = AttentionUNetConfig(widths=(8, 16, 24, 32), depths=(1, 1, 1, 1))
    network = AttentionUNet(config).eval()
    x = torch.randn(1, 4, 16, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        outputs = network.forward_deep(x)
        full = network(x)
    assert [tuple(o.shape) for o in outputs] == [(1, 3, 16, 32, 48), (1, 3, 4, 8, 12), (1, 3, 2, 4, 6)]
    torch.testing.assert_close(outputs[0], full)


@pytest.mark.parametrize(
    "changed",
    [
        {"widths": (8, 16, 32)},
        {"widths": (16, 16, 24)},
        {"depths": (1, 1, 2)},
        {"depths": (2, 1, 1)},
        {"expansion": 3.0},
        {"in_channels": 3},
        {"out_channels": 2},
    ],
)
def test_every_setting_changes_the_network(changed: dict[str, object]) -> None:
    other = replace(THREE, **changed)  # type: ignore[arg-type]
    assert size(other) != size(THREE)


@pytest.mark.parametrize("wrong", [{"widths": (8, 16)}, {"widths": (8,), "depths": (1,)}, {"widths": (8, 12, 24)}])
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="widths"):
        replace(THREE, **wrong)  # type: ignore[arg-type]


def test_settings_survive_a_card() -> None:
    assert network_config("attention_unet", plain(THREE)) == THREE
    with pytest.raises(TypeError, match="width"):
        network_config("attention_unet", {"width": 8})


def test_the_stem_sees_every_voxel() -> None:
    """Space-to-depth is a permutation: a change of any one input voxel reaches the stem."""
    from monai.networks.utils import pixelunshuffle

    x = torch.arange(4 * 4 * 6 * 8, dtype=torch.float32).reshape(1, 4, 4, 6, 8)
    shuffled = pixelunshuffle(x, 3, 2)
    assert shuffled.shape == (1, 32, 2, 3, 4)
    assert torch.equal(shuffled.flatten().sort().values, x.flatten())
    block = set(shuffled[0, :, 0, 0, 0].tolist())
    assert block == set(x[0, :, :2, :2, :2].flatten().tolist())


def test_gradients_reach_every_parameter() -> None:
    """Several starts, because two hidden units of a squeeze may both rest behind their ReLU in one of them."""
    reached: set[str] = set()
    for seed in range(4):
        torch.manual_seed(seed)
        network = AttentionUNet(THREE)
        outputs = network.forward_deep(torch.randn(1, 4, 16, 16, 16))
        torch.stack([o.square().mean() for o in outputs]).sum().backward()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name for name, _ in network.named_parameters()} == reached


def test_changing_one_voxel_changes_the_output() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(TINY).eval()
    x = torch.randn(1, 4, 8, 8, 8)
    for place in [(0, 0, 0), (1, 0, 1), (7, 7, 7)]:
        y = x.clone()
        y[(0, 2, *place)] += 5
        with torch.inference_mode():
            assert (network(x) - network(y)).abs().max() > 1e-5


def test_the_gate_only_weakens_its_skip_and_by_one_weight_a_voxel() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(8, 16)
    skip, coarse = torch.rand(1, 8, 6, 6, 6) + 0.5, torch.randn(1, 16, 3, 3, 3)
    with torch.inference_mode():
        weight = gate(skip, coarse) / skip
        other = gate(skip, coarse + 3) / skip
    assert weight.min() > 0
    assert weight.max() < 1
    torch.testing.assert_close(weight, weight[:, :1].expand_as(weight))
    assert weight.std() > 0
    assert (weight - other).abs().max() > 1e-3  # the coarse level has a say


def test_a_block_is_residual_only_where_shapes_allow() -> None:
    assert FusedMBConv(8, 8).is_residual
    assert not FusedMBConv(8, 16).is_residual
    assert not FusedMBConv(8, 8, stride=2).is_residual
    assert FusedMBConv(8, 16, stride=2)(torch.zeros(1, 8, 8, 6, 4)).shape == (1, 16, 4, 3, 2)


def test_a_study_does_not_change_its_neighbour_in_the_batch() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(TINY)  # training mode: batch statistics would mix them
    a, b = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 4, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network(torch.cat([a, b]))[:1], network(a), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_training_convolves_small_volumes_with_onednn_and_gets_what_torch_gets(stride: int) -> None:
    torch.manual_seed(0)
    ours = Conv3d(8, 16, 3, stride=stride, padding=1)
    theirs = torch.nn.Conv3d(8, 16, 3, stride=stride, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 8, 6, 8, 10)
    results, used = [], []
    for layer in (ours, theirs):
        image = x.clone().requires_grad_()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            y = layer(image)
        (y * torch.cos(y)).sum().backward()
        used.append({event.key for event in profile.key_averages()})
        assert layer.weight.grad is not None
        results.append((y.detach(), image.grad, layer.weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    assert "aten::mkldnn_convolution" in used[0]
    assert "aten::slow_conv3d_forward" in used[1]  # or torch has learnt it, and the layer is no longer needed


def test_the_layer_leaves_other_arithmetic_and_finished_networks_to_torch() -> None:
    layer, x = Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.inference_mode():
        layer.float().eval()(x)
    assert "aten::mkldnn_convolution" not in {event.key for event in profile.key_averages()}
