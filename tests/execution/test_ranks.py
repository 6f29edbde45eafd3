"""Several processes do a run as one does: on CPUs, by gloo, two of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from peftbench.execution import prepare, ranks, restore, score
from peftbench.execution.launch import executed, on_ranks
from peftbench.execution.merging import merged_where_proven
from peftbench.execution.score import Scorer, items_at_once
from peftbench.execution.train import accelerator_for
from peftbench.plugins import build, registry
from peftbench.records.record import FAIL, PASS, Check, Record
from peftbench.records.runs import DDP, FSDP, Budget, Conditions, Run

from ..support.fed import losses_of, uneven

Make = Callable[..., Run]
STEPS = 20
TOLERANCE = 1e-5  # of a loss: the sum over items is in another order, and twenty updates follow from it
BUILT_IN = sorted(
    name for name in registry.load("method") if name not in ("peft", "head")
)  # which has no steps
BY_SUMS = (
    "lora",
    "full",
    "adalora",
    "prefix",
)  # with gradients of all kinds: dense, of the base, pruned, through a network
FAMILIES = ("t5", "gpt2", "opt", "deberta", "mpnet")  # beside those below


def in_two(runs: list[Run], folder: Path, work: Callable[[Run], object], count: int = 2) -> list[Any]:
    """What comes of each run in two processes, or more, rank 0's, which is to be that of the others, too."""

    def do(home: Path) -> dict[str, str]:
        found = [work(run) for run in runs]
        assert ranks.gathered(found) == [found] * count
        (home / "found.json").write_text(json.dumps(found))
        return {"record": Record(runs[0], "", "ok", environment={}, started_at="").to_text()}

    folder.mkdir(exist_ok=True)
    on_ranks(dataclasses.replace(runs[0], ranks=count), folder, do)
    told: list[Any] = json.loads((folder / "found.json").read_text())
    return told


def as_two(run: Run, parallel: str) -> Run:
    return dataclasses.replace(run, ranks=2, parallel=parallel)


@pytest.fixture(scope="module")
def runs(
    make_run: Make, checkpoint: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> list[Run]:
    """Every method on a language model or an encoder, and LoRA on other families."""
    task = uneven(tmp_path_factory.mktemp("texts"))
    found = []
    for place, method in enumerate(BUILT_IN):
        writes = (
            place % 2 == 0 and "prefix-" not in method
        )  # whose infix a text that is written has no place for
        model = checkpoint("llama" if writes else "bert")
        found.append(make_run(method, model, task=task if writes else "synthetic", steps=STEPS))
    # T5 of that size doubles a difference with each step at the rate of the others, in one process with its batches in two parts, too.
    return found + [
        make_run("lora:rank=2", checkpoint(family), steps=STEPS, learning_rate=1e-3) for family in FAMILIES
    ]


@pytest.fixture(scope="module")
def alone(runs: list[Run]) -> dict[str, tuple[list[float], list[float]]]:
    return {run.key: losses_of(run) for run in runs}


@pytest.mark.parametrize("parallel", [FSDP, DDP])
def test_two_processes_take_the_steps_of_one(
    parallel: str, runs: list[Run], alone: dict[str, tuple[list[float], list[float]]], tmp_path: Path
) -> None:
    chosen = [run for run in runs if parallel == FSDP or run.method in BY_SUMS]
    told = in_two([as_two(run, parallel) for run in chosen], tmp_path, losses_of)
    apart = {
        f"{run.method} on {Path(run.model).name}": np.abs(np.subtract(theirs, alone[run.key])).max(axis=1)
        for run, theirs in zip(chosen, told, strict=True)
    }
    wrong = {
        name: its for name, its in apart.items() if not its[0] <= TOLERANCE or not its[1] <= 100 * TOLERANCE
    }
    assert not wrong


@pytest.mark.parametrize(
    ("method", "model", "parallel"),
    [("qlora", "llama", FSDP), ("full", "bert", FSDP), ("prefix", "llama", DDP), ("head", "bert", FSDP)],
)
def test_a_run_in_two_processes_keeps_its_claims_and_its_file_is_good_for_one(
    method: str,
    model: str,
    parallel: str,
    make_run: Make,
    checkpoint: Callable[[str], str],
    pairs: str,
    tmp_path: Path,
) -> None:
    run = as_two(
        make_run(method, checkpoint(model), steps=6, **({"task": pairs} if model == "llama" else {})),
        parallel,
    )
    kept = Conditions(keep_weights=True, curve_points=2)
    record = executed(run, tmp_path, kept)
    assert record.checks and [c for c in record.checks if c["outcome"] == FAIL] == []
    assert not list(tmp_path.glob("rank-*"))
    memory: Any = (record.memory or {})["train"]
    assert memory["all_ranks_bytes"] >= memory["peak_above_model_bytes"] > 0
    frame = pd.read_parquet(tmp_path / "predictions.parquet")
    again = scored_alone(run, tmp_path)
    np.testing.assert_allclose(frame["nll"], again["nll"], rtol=1e-5, atol=1e-7)
    pd.testing.assert_series_equal(frame["prediction"], again["prediction"])
    assert list(frame["item"]) == list(range(len(again)))


def scored_alone(run: Run, folder: Path) -> pd.DataFrame:
    """The test items of a stored run, by its saved weights in this process."""
    prepared = restore.rebuilt(run, folder)
    task = build.build_task(run.task)
    split = prepare.encode(run, task, prepared.tokenizer)["test"]
    at_once, accelerator = items_at_once(run.budget.max_length), accelerator_for("cpu", run.dtype)
    objective = prepare.objective_for(run, task)
    scorer = Scorer(prepared.adaptation.model, objective, prepared.tokenizer, accelerator, at_once)
    frame = scorer.predict(split)
    scorer.write(split, frame)
    return frame


@pytest.mark.parametrize(("items", "accumulate"), [(8, 3), (4, 2), (2, 1)])
def test_three_processes_take_the_steps_of_one_where_their_parts_are_not_as_many(
    items: int, accumulate: int, make_run: Make, tmp_path: Path
) -> None:
    """One that has no part left is waited for all the same."""
    run = make_run(budget=Budget("custom", 4, None, items, accumulate, 32))
    alone = losses_of(run)
    three = dataclasses.replace(run, ranks=3, parallel=FSDP)
    (told,) = in_two([three], tmp_path, losses_of, count=3)
    np.testing.assert_allclose(told, alone, rtol=1e-4)


def test_operations_of_a_part_that_is_done_for_nothing_do_not_count(make_run: Make, tmp_path: Path) -> None:
    run = make_run(kind="profile", model="tiny-encoder", budget=Budget("custom", 4, None, 3, 2, 32))
    counted: Any = (executed(run, tmp_path, Conditions()).profile or {})["flops"]
    (tmp_path / "two").mkdir()
    # Of three parts one rank does two, and the other one of them and one more for nothing.
    together: Any = (executed(as_two(run, FSDP), tmp_path / "two", Conditions()).profile or {})["flops"]
    by_tokens = [{one["padded_tokens"]: one["flops"] for one in its} for its in (counted, together)]
    both = by_tokens[0].keys() & by_tokens[1].keys()
    assert both
    for tokens in both:
        assert by_tokens[1][tokens] == pytest.approx(by_tokens[0][tokens], rel=0.02)


def test_merged_layers_are_not_written_with_where_the_base_is_shared(
    make_run: Make, checkpoint: Callable[[str], str], pairs: str, tmp_path: Path
) -> None:
    """Each process would have them whole, and none can be made of a part."""
    passed = Check("merge", PASS, "", {"merge": 0.0, "cast": 0.0})

    def work(run: Run) -> bool:
        prepared = prepare.prepare(run, prepare.objective_for(run, build.build_task(run.task)), "cpu")
        with merged_where_proven(prepared.adaptation, passed, torch.device("cuda")) as merged:
            return merged

    run = make_run("lora", checkpoint("llama"), task=pairs)
    merged = [in_two([as_two(run, parallel)], tmp_path / parallel, work) for parallel in (FSDP, DDP)]
    assert merged == [[False], [True]]


class Held(nn.Module):
    """Two tensors, of which a rank may have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.zeros(2))
        self.one = nn.Parameter(torch.zeros(2))
        self.none = nn.Parameter(torch.zeros(2))


def test_gradients_are_summed_where_one_rank_has_none(make_run: Make, tmp_path: Path) -> None:
    def work(_: Run) -> list[object]:
        held, own = Held(), ranks.own()
        held.both.grad = torch.full((2,), 1.0 + own)
        held.one.grad = torch.full((2,), 5.0) if own else None
        trained = list(held.parameters())
        ranks.sum_gradients(trained)
        norm = float(ranks.clip_gradients(trained, 1.0))
        return [norm, *(None if p.grad is None else p.grad.tolist() for p in trained)]

    found: Any = in_two([make_run()], tmp_path, work)[0]
    expected = np.sqrt(2 * 3.0**2 + 2 * 5.0**2)
    assert found[0] == pytest.approx(expected) and found[3] is None
    np.testing.assert_allclose([*found[1], *found[2]], np.array([3, 3, 5, 5]) / expected, rtol=1e-5)


def test_work_is_done_once_and_comes_back_in_order(make_run: Make, tmp_path: Path) -> None:
    """Five pieces, three on one rank; the other does one more for nothing."""

    def work(_: Run) -> list[object]:
        did: list[int] = []

        def do(piece: int) -> int:
            did.append(piece)
            return 10 * piece

        return [ranks.shared(range(5), do), ranks.gathered(did)]

    assert in_two([make_run()], tmp_path, work) == [[[0, 10, 20, 30, 40], [[0, 2, 4], [1, 3, 4]]]]


def test_texts_that_end_at_different_places_are_those_of_one_process(
    make_run: Make,
    checkpoint: Callable[[str], str],
    pairs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rank that is done goes on while another one writes; each has texts of its own."""
    monkeypatch.setattr(score, "BATCH_TOKENS", 1)  # a text at a time
    run = make_run("lora", checkpoint("llama"), task=f"{pairs}:max_new_tokens=12")

    def texts(run: Run) -> list[str]:
        task = build.build_task(run.task)
        objective = prepare.objective_for(run, task)
        prepared = prepare.prepare(run, objective, "cpu")
        model: Any = prepared.adaptation.model
        model.generation_config.eos_token_id = [prepared.tokenizer.sep_token_id, *range(5, 250, 6)]
        split = prepare.encode(run, task, prepared.tokenizer)["test"].some(np.arange(5))
        scorer = Scorer(model, objective, prepared.tokenizer, accelerator_for("cpu", "float32"), 16)
        frame = scorer.predict(split)
        scorer.write(split, frame)
        return list(frame["prediction"])

    alone = texts(run)
    assert len({len(text) for text in alone}) > 1
    assert in_two([as_two(run, FSDP), as_two(run, DDP)], tmp_path, texts) == [alone, alone]
