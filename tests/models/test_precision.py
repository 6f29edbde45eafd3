"""Data types: what is frozen is cast once, what trains stays float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from peftbench.execution import prepare
from peftbench.execution.train import accelerator_for, train
from peftbench.models.precision import frozen_in
from peftbench.plugins import build
from peftbench.records.runs import Run

Make = Callable[..., Run]


def test_bfloat16_compute_keeps_float32_weights(make_run: Make, tmp_path: Path) -> None:
    run = make_run("full", dtype="bfloat16", steps=2)
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, "cpu")
    encoded = prepare.encode(run, task, prepared.tokenizer)
    accelerator = accelerator_for("cpu", "bfloat16")
    train(
        prepared,
        encoded["train"],
        task.objective,
        run,
        {"input_ids": 0},
        accelerator,
    )
    model = prepared.adaptation.model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():  # nothing of autocast is left on forward for the meters that follow
        assert (
            model(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2)).logits.dtype
            == torch.float32
        )


def test_frozen_weights_cast_once_change_no_bit(
    checkpoint: Callable[[str], str], make_run: Callable[..., Run]
) -> None:
    run = make_run("lora", checkpoint("bert"))
    prepared = prepare.prepare(run, build.build_task(run.task).objective, "cpu")
    model = prepared.adaptation.model
    inputs = {"input_ids": torch.arange(24).reshape(2, 12) + 5, "attention_mask": torch.ones(2, 12).long()}
    before = {name: p.clone() for name, p in model.named_parameters()}

    def outputs() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: torch.Tensor = model(**inputs).logits
        return logits

    expected = outputs()
    with frozen_in(model, torch.bfloat16) as originals:
        cast = [name for name, p in model.named_parameters() if p.dtype == torch.bfloat16]
        assert cast and len(cast) == len(originals)
        assert not any(name in prepared.adaptation.params or "embedding" in name for name in cast)
        assert torch.equal(outputs(), expected)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
