"""Memory by kind at the peak of a step, against what arithmetic says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from peftbench.measure.breakdown import MemoryByKind, memory_by_kind

MB = 1_000_000


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.cuda),
]


class Square(torch.autograd.Function):
    """x^2, with its input saved for backward and nothing else."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        product: torch.Tensor = gradient * 2 * x
        return product


def known_step(device: str, frozen: bool) -> tuple[MemoryByKind, dict[str, int]]:
    """One layer of n x n, a batch of b rows, AdamW with one tensor a step; and what it must hold at its peak."""
    n, b = 512, 2048
    model = nn.Sequential(nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)).to(device)
    model[0].weight.requires_grad_(not frozen)
    x = torch.randn(b, n, device=device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)

    def step() -> None:
        hidden = Square.apply(model[0](x))  # type: ignore[no-untyped-call]
        model[1](hidden).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = memory_by_kind(step, model, optimizer, torch.device(device))
    matrix, rows = 4 * n * n, 4 * b * n
    always = {
        "weights": 2 * matrix,
        "optimizer": (1 if frozen else 2) * (2 * matrix + 4),
    }  # two moments, a counter
    if frozen:
        # It peaks with the outputs: the trained layer has its input saved; the batch and the outputs are there too.
        return found, {**always, "gradients": 0, "activations": rows, "other": 2 * rows}
    # It peaks in the square's backward: saved are its input and the first layer's; besides `hidden`, three gradients.
    return found, {**always, "gradients": matrix, "activations": 2 * rows, "other": 4 * rows}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("frozen", [True, False])
def test_memory_by_kind_is_what_arithmetic_says(device: str, frozen: bool) -> None:
    found, expected = known_step(device, frozen)
    assert found.operator.startswith("aten.")
    for kind, size in expected.items():
        assert getattr(found, f"{kind}_bytes") == pytest.approx(size, abs=64), kind  # the loss is 4 bytes
    assert found.total_bytes == pytest.approx(sum(expected.values()), abs=64)
    if (
        device == "cuda"
    ):  # the step's tensors are gone, cuBLAS's workspace stays (64 MiB on Hopper), and is no tensor
        assert found.allocator_peak_bytes is not None
        own = found.allocator_peak_bytes - torch.cuda.memory_allocated()
        assert own == pytest.approx(found.total_bytes, rel=0.1)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_seen_where_the_optimizer_peaks(device: str) -> None:
    model = nn.Linear(1000, 1000, bias=False).to(device)  # 4 MB; the batch is nothing beside it
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step() -> None:
        model(torch.ones(1, 1000, device=device)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = memory_by_kind(step, model, optimizer, torch.device(device))
    assert found.gradients_bytes == 4 * MB and found.activations_bytes == 0
    assert found.other_bytes == pytest.approx(
        8 * MB, abs=64
    )  # the root of the second moment, and its quotient


def test_memory_by_kind_does_not_see_what_ran_before() -> None:
    first, _ = known_step("cpu", True)
    held = [torch.ones(5 * MB) for _ in range(3)]
    second, _ = known_step("cpu", True)
    assert first == second and len(held) == 3
