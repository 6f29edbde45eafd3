"""Packing: the same losses from fewer rows, and whatever lets texts see each other is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from peftbench import NotSupported, UsageError, swap
from peftbench.comparison.request import Comparison
from peftbench.execution import relations
from peftbench.execution.execute import execute
from peftbench.execution.packing import ONE_ROW, lay_out, packed, room_of
from peftbench.execution.probe import short_probe
from peftbench.measure.environment import capacity
from peftbench.planning.plan import plan
from peftbench.records.runs import ALONE

from ..support.fed import Make, fed, losses_of, uneven


def test_each_item_stands_once_and_rows_are_few_and_narrow() -> None:
    lengths = np.array([7, 3, 5, 2, 3, 9])
    layout = lay_out(lengths, 10)
    assert sorted(item for row in layout.rows for item in row) == list(range(6))
    assert len(layout.rows) == 3 and layout.width == 10
    taken = np.concatenate([start + np.arange(n) for start, n in zip(layout.starts, lengths, strict=True)])
    assert len(set(taken.tolist())) == lengths.sum() and taken.max() < 3 * 10
    assert lay_out(np.array([4, 4, 4]), 9).rows == [
        [0],
        [1],
        [2],
    ]  # two rows of 8 would be more than three of 4
    assert lay_out(lengths, ONE_ROW).rows == [[5, 0, 2, 1, 4, 3]]
    assert lay_out(np.array([20]), 10).width == 20


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_packed_texts_train_as_texts_by_themselves(
    family: str, make_run: Make, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    run = make_run("lora", checkpoint(family), task=uneven(tmp_path), steps=5)
    run = dataclasses.replace(run, budget=dataclasses.replace(run.budget, max_length=100, accumulate=2))
    parts = dataclasses.replace(fed(run)[1], room=100)
    assert parts.shape(np.arange(8))[0][0] < 8
    alone, together = losses_of(run), losses_of(dataclasses.replace(run, packing=True))
    np.testing.assert_allclose(
        together, alone, rtol=1e-4
    )  # masks choose the kernel, and each sums in its own order


def test_all_that_saves_memory_at_once_leaves_the_losses(
    make_run: Make, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    run = make_run("lora", checkpoint("llama"), task=uneven(tmp_path))
    budget = dataclasses.replace(run.budget, max_length=100, steps=None, epochs=0.5)
    plain = dataclasses.replace(run, budget=dataclasses.replace(budget, accumulate=1))
    saving = dataclasses.replace(
        run, budget=dataclasses.replace(budget, accumulate=2), packing=True, checkpointing=True
    )
    found = losses_of(saving)
    assert len(found[0]) > 1
    np.testing.assert_allclose(found, losses_of(plain), rtol=1e-4)


def test_a_packed_batch_has_the_same_items_in_fewer_rows(make_run: Make, tmp_path: Path) -> None:
    _, parts = fed(make_run("lora", "tiny-decoder", task=uneven(tmp_path)))
    order = np.argsort(parts.data.lengths)
    items = np.concatenate([order[:6], order[-2:]])
    room = dataclasses.replace(parts, room=64)
    (alone,), (together,) = parts.of(items), room.of(items)
    assert together.asked is not None and alone.asked is not None
    assert torch.equal(together.asked.tokens, alone.asked.tokens)
    rows, width, _, asked = room.shape(items)[0]
    assert (
        together.inputs["input_ids"].shape == (rows, width)
        and rows < len(items)
        and asked == len(alone.asked.tokens)
    )
    assert "attention_mask" not in together.inputs


class Leaking(nn.Module):
    """Adds a share of the mean over all places of a row, which at the start is none."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.share = base, nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor) -> Tensor:
        before = hidden.cumsum(1) / torch.arange(1, hidden.shape[1] + 1)[:, None]
        out: Tensor = self.base(hidden + self.share * before)
        return out


def test_a_method_that_leaks_from_text_to_text_is_refused(make_run: Make, tmp_path: Path) -> None:
    run = make_run("lora", "tiny-decoder", task=uneven(tmp_path))
    prepared, parts = fed(run)
    probe = short_probe(parts.data, parts.pad, parts.device).computed_in(run, prepared.output)
    relations.check_packing(prepared, probe, 64)
    prepared.adaptation.remove()
    prepared.adaptation = swap(prepared.adaptation.model, "query", lambda base, _: Leaking(base))
    with pytest.raises(NotSupported, match="--packing: with this method the model does not keep the texts"):
        relations.check_packing(prepared, probe, 64)
    assert not any(bool(p.any()) for p in prepared.adaptation.params.values())  # as before


@pytest.mark.parametrize("kind", ["training", "profile"])
def test_a_run_that_can_not_be_packed_does_not_train(kind: str, make_run: Make, tmp_path: Path) -> None:
    run = make_run("prompt", "tiny-decoder", task=uneven(tmp_path), packing=True, kind=kind)
    with pytest.raises(NotSupported, match="leave --packing out"):
        execute(run, tmp_path, ALONE)


def test_a_model_that_takes_no_positions_is_refused(
    make_run: Make, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    run = make_run("lora", checkpoint("opt"), task=uneven(tmp_path))
    prepared, parts = fed(run)
    probe = short_probe(parts.data, parts.pad, parts.device).computed_in(run, prepared.output)
    with pytest.raises(
        NotSupported, match="--packing: this model does not keep the texts of a packed row apart"
    ):
        relations.check_packing(prepared, probe, 64)


def test_flash_attention_has_one_row_without_padding(make_run: Make, tmp_path: Path) -> None:
    prepared, parts = fed(run := make_run("lora", "tiny-decoder", task=uneven(tmp_path), packing=True))
    model: Any = prepared.adaptation.model
    assert room_of(run, model) == run.budget.max_length
    model.config._attn_implementation_internal = "flash_attention_2"
    assert room_of(run, model) == ONE_ROW
    tokens, items = parts.data.lists["input_ids"], np.arange(3)
    inputs = packed(tokens, items, lay_out(tokens.lengths[items], ONE_ROW))
    assert inputs["input_ids"].shape == (1, tokens.lengths[items].sum())
    assert int((inputs["position_ids"] == 0).sum()) == 3


def test_what_does_not_write_is_refused_in_the_plan(tmp_path: Path, checkpoint: Callable[[str], str]) -> None:
    for model, task in (
        ("tiny-encoder", "synthetic"),
        ("tiny-decoder", "synthetic"),
        (checkpoint("t5"), uneven(tmp_path)),
    ):
        with pytest.raises(UsageError, match="--packing lays the texts of a decoder that writes end to end"):
            plan(Comparison(("lora",), models=(model,), tasks=(task,), packing=True), capacity())
