"""Muon: updates are orthogonal, learning works, and its state travels in a checkpoint."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brats_seg.networks.attention_unet import AttentionUNet, AttentionUNetConfig
from brats_seg.train.optimiser import UPDATE_RMS, Muon, optimisers, orthogonalise


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 100))
def test_singular_values_come_near_one_and_directions_stay(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalise(matrix)
    inside = u.T @ made @ v.T
    assert torch.allclose(inside, torch.diag(torch.diagonal(inside)), atol=1e-6)
    strong = torch.diagonal(inside)[values > 0.05 * values.max()]
    assert strong.min() > 0.6
    assert strong.max() < 1.3


def test_size_and_sign_of_a_gradient_do_not_change_the_size_of_an_update() -> None:
    matrix = torch.randn(16, 27, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orthogonalise(1e-4 * matrix), orthogonalise(matrix), atol=1e-5)
    assert torch.allclose(orthogonalise(-matrix), -orthogonalise(matrix), atol=1e-6)


def test_an_update_is_as_large_as_one_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(32, 16, 3, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.1, weight_decay=0.0).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * UPDATE_RMS, rel=0.2)


def test_a_least_squares_problem_is_solved() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(8, 12, generator=generator)
    inputs = torch.randn(64, 12, generator=generator)
    weight = nn.Parameter(torch.zeros(8, 12))
    optimiser = Muon([weight], lr=0.5, weight_decay=0.0)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.5 * (1 - step / 200)
        optimiser.zero_grad()
        ((inputs @ (weight - truth).T) ** 2).mean().backward()
        optimiser.step()
    assert float((weight.detach() - truth).abs().max()) < 0.05


def test_every_weight_has_one_optimiser() -> None:
    network = AttentionUNet(AttentionUNetConfig(widths=(8, 16), depths=(1, 1)))
    parts = optimisers(network, lr=1e-3, weight_decay=0.0)
    held = [id(weight) for part in parts for group in part.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in network.parameters())
    inner = {id(weight) for weight in parts[0].param_groups[0]["params"]}
    names = [name for name, weight in network.named_parameters() if id(weight) in inner]
    assert names
    assert not any(name.startswith(("stem", "head", "deep_heads")) or "norm" in name for name in names)
