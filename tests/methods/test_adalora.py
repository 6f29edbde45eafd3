"""AdaLoRA: its ranks fall to the budget that it was given, and it stores no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import Adaptation
from peftbench.plugins.build import build_method
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import gpt2, inject

Make = Callable[..., Run]
Of = Callable[[str], str]


def steps_of(adaptation: Adaptation, count: int) -> None:
    optimizer = torch.optim.SGD(adaptation.params.values(), lr=0.3)
    for step in range(count):
        out: Any = adaptation.model(**inputs()).logits
        assert adaptation.penalty is not None and adaptation.after_step is not None
        (nn.functional.cross_entropy(out, torch.tensor([0, 1])) + adaptation.penalty()).backward()
        optimizer.step()
        adaptation.after_step(step, count)
        optimizer.zero_grad()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_adalora_ends_with_its_budget_and_stores_no_more(family: str, make_run: Make, checkpoint: Of) -> None:
    run = make_run("adalora:initial_rank=6:target_rank=2", checkpoint(family))
    prepared = adapted(run)
    adaptation = prepared.adaptation
    steps_of(adaptation, 20)
    layers: list[Any] = [wrapper for _, wrapper in adaptation.swaps.values()]
    matrices = sum(len(layer.rows) for layer in layers)
    assert matrices == 4
    assert sum(int((layer.l != 0).sum()) for layer in layers) == 2 * matrices
    before = logits(prepared)
    assert adaptation.settle is not None
    adaptation.settle()
    torch.testing.assert_close(logits(prepared), before, rtol=1e-5, atol=1e-5)
    state = {name: t.clone() for name, t in adaptation.state().items()}
    assert sum(t.numel() for name, t in state.items() if name.endswith(".l")) < 6 * matrices
    again = adapted(run).adaptation
    again.load(state)
    with torch.no_grad():
        out: Any = again.model(**inputs()).logits
    torch.testing.assert_close(out, logits(prepared), rtol=1e-6, atol=1e-6)


def test_adaloras_budget_falls_with_a_cube() -> None:
    """Equation 12, by hand: 10 % of 100 steps whole, 30 % at the end final, halfway between (1/2)^3 of what goes."""
    from peftbench.methods.adalora import Ranks  # noqa: TID251  the schedule itself is under test

    method, _ = build_method("adalora:initial_rank=12:target_rank=4")
    adaptation = inject("adalora:initial_rank=12:target_rank=4", gpt2(False))
    layers: list[Any] = [wrapper for _, wrapper in adaptation.swaps.values()]
    ranks = Ranks(method, layers)
    assert ranks.budget(0, 100) == ranks.budget(10, 100) == 12 * 48
    assert ranks.budget(40, 100) == 4 * 48 + int(8 * 48 / 8)
    assert ranks.budget(70, 100) == ranks.budget(99, 100) == 4 * 48
