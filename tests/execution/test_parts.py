"""What a model is given of a batch, and the loss of tokens that are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peftbench import Completion
from peftbench.execution import cost, prepare
from peftbench.execution.parts import Part
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for
from peftbench.models import output_layer
from peftbench.plugins import build
from peftbench.tables.flops import flops_of

from ..support.fed import Make, fed, losses_of, uneven


@dataclass(frozen=True)
class Smoothed(Completion):
    """One's own loss: the library gives it the logits of all places."""

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        assert logits.shape[:2] == batch["labels"].shape
        return super().loss(logits, batch)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_tokens_in_chunks_and_parts_train_as_a_loss_over_all_logits(
    family: str,
    make_run: Make,
    tmp_path: Path,
    checkpoint: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run("lora", checkpoint(family), task=uneven(tmp_path), steps=4, learning_rate=1e-3)
    objective: Any = prepare.objective_for(run, build.build_task(run.task))
    own = Smoothed(objective.metrics, objective.decoding, decoder_start=objective.decoder_start)
    whole = losses_of(run, own)
    budget = dataclasses.replace(run.budget, accumulate=3)
    monkeypatch.setattr(output_layer, "CHUNK_BYTES", 2**17)
    for other in (run, dataclasses.replace(run, budget=budget)):
        # Sums of float32 in another order, through four steps of Adam.
        np.testing.assert_allclose(losses_of(other), whole, rtol=1e-4)


def test_scores_are_those_of_an_objective_that_is_given_all_logits(make_run: Make, tmp_path: Path) -> None:
    run = make_run("lora", "tiny-decoder", task=uneven(tmp_path))
    prepared, parts = fed(run)
    model, accelerator = prepared.adaptation.model, accelerator_for("cpu", "float32")
    found = [
        Scorer(model, objective, prepared.tokenizer, accelerator, 16, prepared.output).predict(parts.data)
        for objective in (parts.objective, Smoothed(parts.objective.metrics))  # type: ignore[attr-defined]
    ]
    np.testing.assert_allclose(found[0]["nll"], found[1]["nll"], rtol=1e-6)


def test_weights_and_places_are_counted_before_a_device_has_the_batch(make_run: Make, tmp_path: Path) -> None:
    _, parts = fed(make_run("lora", "tiny-decoder", task=uneven(tmp_path)))
    on_meta = dataclasses.replace(parts, device=torch.device("meta"))  # of whose numbers nobody can ask
    items = np.arange(5)
    (part,), (there,) = parts.of(items), on_meta.of(items)
    assert there.inputs["input_ids"].is_meta and there.asked is not None and part.asked is not None
    assert len(there.asked.index) == len(part.asked.index) == len(part.asked.tokens)
    read = part.inputs["input_ids"].flatten()
    assert torch.equal(read[part.asked.index + 1], part.asked.tokens)
    (shape,) = parts.shape(items)
    assert shape == [*part.inputs["input_ids"].shape, 0, len(part.asked.tokens)]


def test_the_operations_of_a_step_follow_from_its_tokens_asked_for(make_run: Make, tmp_path: Path) -> None:
    """A profile counts a few steps, and all others are told by their shapes."""
    from peftbench.execution.train import Stepper
    from peftbench.measure.arithmetic import count_flops

    run = make_run("lora", "tiny-decoder", task=uneven(tmp_path), kind="profile", steps=20)
    prepared, parts = fed(run)
    stepper = Stepper(prepared, parts.objective, run, 20, accelerator_for("cpu", "float32"))

    def counted(items: Any) -> tuple[Any, int]:
        batch: list[Part] = parts.of(items)
        return parts.shape(items), count_flops(lambda: stepper.step(batch))

    _, *chosen = cost._batches(run, parts)
    (shape, flops) = counted(np.array([3, 30, 11, 20, 1, 28, 7, 19]))
    assert flops_of([counted(items) for items in chosen], [shape]) == pytest.approx([flops])
