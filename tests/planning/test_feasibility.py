"""Whether a run can fit, by arithmetic, before anything runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.execution import prepare
from peftbench.planning import feasibility
from peftbench.planning.plan import plan
from peftbench.records.runs import Run

Make = Callable[..., Run]


def test_the_floor_is_weights_gradients_and_moments(make_run: Make) -> None:
    for method, share in (("full", 1.0), ("lora", None), ("head", 0.0)):
        run = make_run(method)
        prepared = prepare.prepare(run, prepare.objective_of(run), "meta")
        floor = feasibility.floor(prepared, trains=share != 0)
        base = sum(p.numel() for p in prepared.base)
        own = sum(p.numel() for p in prepared.adaptation.params.values())
        head = sum(p.numel() for p in prepared.head.values())
        trained = 0 if share == 0 else own + head
        extra = own if method == "lora" else 0
        # Buffers (positions, say) come on top of the weights: whole numbers, a few hundred.
        assert 4 * (base + extra) <= floor.weights_bytes <= 4 * (base + extra) + 10_000
        assert (floor.gradients_bytes, floor.optimizer_bytes) == (4 * trained, 8 * trained)


def granting(memory_bytes: int) -> Capacity:
    return Capacity((Device("cpu", 1, memory_bytes, bfloat16=False),), cores=1)


def test_what_can_not_fit_is_a_row_before_anything_runs() -> None:
    """The tiny encoder has 42,000 weights, 168 kB; trained whole it needs four times that."""
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), latency_grid=(), profile=False
    )
    refusals = {item.run.method: item.refusal for item in plan(asked, granting(400_000))}
    assert refusals["lora"] is None and refusals["head"] is None
    assert refusals["full"] is not None and refusals["full"].startswith(
        "it does not fit: 0.0 GB (weights 0.0, gradients"
    )
    with pytest.raises(UsageError, match="lora on tiny-encoder: it does not fit"):
        plan(asked, granting(100_000))
