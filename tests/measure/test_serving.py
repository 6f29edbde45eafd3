"""Many tasks on one base: each row gets its own, and the base is left alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch

from peftbench import Batch
from peftbench.execution.prepare import Prepared, inject
from peftbench.measure.latency import over_shared_weights
from peftbench.measure.serving import measure_serving
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.records.runs import Run

from ..support.adapted import adapted

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_one_batch_of_several_tasks_gives_each_row_its_own_task(
    family: str, make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    tasks: list[Prepared] = []
    for seed in range(2):
        prepared = adapted(make_run("lora:targets=query+value", checkpoint(family)))
        generator = torch.Generator().manual_seed(seed)
        for parameter in prepared.adaptation.params.values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        tasks.append(prepared)
    batch: Batch = {
        "input_ids": torch.arange(24).reshape(4, 6) + 5,
        "attention_mask": torch.ones(4, 6).long(),
    }
    rows = torch.tensor([0, 1, 1, 0])
    mixed = copy.deepcopy(tasks[0].adaptation.model)
    for name, (_, wrapper) in tasks[0].adaptation.swaps.items():
        of_layer = [task.adaptation.swaps[name][1] for task in tasks]
        mixed.set_submodule(name, wrapper.mixed(of_layer, rows))  # type: ignore[operator]
    together = mixed.eval()(**batch).logits
    alone = [task.adaptation.model.eval()(**batch).logits for task in tasks]
    expected = torch.stack([alone[task][row] for row, task in enumerate(rows)])
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    assert torch.allclose(together, expected, atol=1e-5)


def test_switching_tasks_leaves_the_base_alone(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    loaded = load_model(resolve_model(checkpoint("gpt2")), None, 0)
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    tasks = []
    for seed in range(2):
        tree = over_shared_weights(loaded.model)
        run = make_run("lora", checkpoint("gpt2"), seed)
        prepared = inject(run, dataclasses.replace(loaded, model=tree), "cpu")
        for parameter in prepared.adaptation.params.values():
            parameter.data.normal_()
        tasks.append(prepared.adaptation)
    found = measure_serving(loaded.model, tasks, ((2, 8),), CPU, 3)
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())
    # Eight rounds with the warm-up, of two to five calls each.
    assert 16 <= found.switches <= 40 and 0 < found.drift < 1e-5
    assert found.adapter_bytes == sum(p.numel() for p in tasks[0].params.values()) * 4
    assert found.adapter_bytes < found.merged_bytes < found.model_bytes
