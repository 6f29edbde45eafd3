"""The optimizers: which moments are kept how, what a machine can't do, and whole runs by them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.execution import optimizers
from peftbench.execution.execute import execute
from peftbench.planning.plan import plan
from peftbench.records.runs import ALONE, Run

Make = Callable[..., Run]


class Model(nn.Module):
    """A tensor of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.large, self.small = nn.Embedding(128, 64), nn.Linear(64, 64), nn.Linear(64, 8)


def test_moments_are_in_8_bits_but_of_embeddings_and_small_tensors() -> None:
    pytest.importorskip("bitsandbytes")
    model = Model()
    optimizer = optimizers.optimizer_of(
        "adamw-8bit", [{"params": list(model.parameters()), "lr": 0.1}], model
    )
    model.large.weight.grad, model.embedding.weight.grad = torch.ones(64, 64), torch.zeros(128, 64)
    model.small.weight.grad = torch.ones(8, 64)
    before = model.large.weight.detach().clone()
    optimizer.step()
    kinds = {name: optimizer.state[p] for name, p in model.named_parameters() if p.grad is not None}
    assert {name: state["state1"].dtype for name, state in kinds.items()} == {
        "embedding.weight": torch.float32,
        "large.weight": torch.uint8,
        "small.weight": torch.float32,
    }
    held = sum(
        t.nbytes
        for name, t in kinds["large.weight"].items()
        if not name.startswith("qmap") and name != "step"
    )
    assert held == optimizers.moment_bytes("adamw-8bit", 64 * 64, False)
    torch.testing.assert_close(
        model.large.weight, before * (1 - 0.1 * 0.01) - 0.1
    )  # Adam's first step is the rate
    moments: Any = {name: optimizers.second_moment(state) for name, state in kinds.items()}
    assert bool(moments["large.weight"].any())
    assert not bool(moments["embedding.weight"].any())
    assert optimizers.second_moment(optimizer.state[model.small.bias]) is None


@pytest.mark.parametrize(
    ("device", "eight"),
    [
        ("cpu", "adamw-8bit"),
        pytest.param("cuda", "adamw-8bit", marks=pytest.mark.cuda),
        pytest.param("cuda", "paged-adamw-8bit", marks=pytest.mark.cuda),
    ],
)
def test_a_run_by_8_bit_moments_keeps_its_claims(
    device: str, eight: str, make_run: Make, tmp_path: Path
) -> None:
    """Near the losses of float32 moments: a block's numbers are known to 1 % of its largest."""
    pytest.importorskip("bitsandbytes")
    losses = []
    for name in ("adamw", eight):
        run = make_run("lora:rank=128", steps=6, optimizer=name, device=device)
        (tmp_path / name).mkdir()
        record = execute(run, tmp_path / name, ALONE)
        assert record.status == "ok" and {c["outcome"] for c in record.checks or ()} <= {
            "pass",
            "not claimed",
        }
        losses.append((record.training or {})["losses"])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_what_a_machine_can_not_do_is_said_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), optimizer="paged-adamw-8bit"
    )
    capacity = Capacity((Device("cpu", 1, 2**34, False),), cores=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="pages between a CUDA GPU and its host; use adamw-8bit"):
        plan(asked, capacity)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs bitsandbytes: pip install bitsandbytes"):
        plan(dataclasses.replace(asked, optimizer="adamw-8bit"), capacity)
