"""Data, the trainer and the scoring: order, schedule, determinism, the probe."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from peftbench import Adaptation
from peftbench.errors import Mistaken
from peftbench.execution import batches, prepare
from peftbench.execution.execute import execute
from peftbench.execution.finite import Diverged, check_columns, check_figures
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for, schedule, train
from peftbench.plugins import build
from peftbench.records.failed_seeds import why_failed
from peftbench.records.runs import ALONE, Budget, Run

Make = Callable[..., Run]


def once(run: Run, out: Path) -> tuple[Any, pd.DataFrame]:
    out.mkdir(parents=True, exist_ok=True)
    record = execute(run, out, ALONE)
    return record, pd.read_parquet(out / "predictions.parquet")


def test_the_same_seed_gives_the_same_predictions_bit_for_bit(make_run: Make, tmp_path: Path) -> None:
    run = make_run("lora:dropout=0.1", steps=12)
    (one, first), (two, second) = once(run, tmp_path / "1"), once(run, tmp_path / "2")
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert one.training["losses"] == two.training["losses"]
    _, other = once(dataclasses.replace(run, seed=1), tmp_path / "3")
    assert not np.array_equal(first["nll"], other["nll"])


def test_training_learns_the_synthetic_task(make_run: Make, tmp_path: Path) -> None:
    """Counting animal and tool words takes attention to all bytes: from chance to nearly always right."""
    run = make_run("full", task="synthetic", steps=150, learning_rate=3e-3)
    run = dataclasses.replace(run, budget=Budget("custom", 150, None, 32, 1, 32))
    record, predictions = once(run, tmp_path)
    assert record.quality["accuracy"] == predictions["score"].mean() > 0.9
    assert record.quality["nll"] == pytest.approx(predictions["nll"].mean())
    assert record.training["losses"][-1] < 0.5 * record.training["losses"][0]
    assert why_failed(record) is None
    assert list(predictions["item"]) == list(range(200))


def test_accumulation_gives_the_gradient_of_the_whole_batch(make_run: Make, tmp_path: Path) -> None:
    """Without dropout, a batch in parts is the same sum in another order."""
    whole = make_run("lora", steps=4)
    parts = dataclasses.replace(whole, budget=dataclasses.replace(whole.budget, accumulate=3))
    losses = []
    for run, name in ((whole, "a"), (parts, "b")):
        task = build.build_task(run.task)
        prepared = prepare.prepare(run, task.objective, "cpu")
        for module in prepared.adaptation.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        config: Any = prepared.adaptation.model.config
        config.attention_probs_dropout_prob = 0.0
        encoded = prepare.encode(run, task, prepared.tokenizer)
        accelerator = accelerator_for("cpu", "float32")
        seen = train(
            prepared,
            encoded["train"],
            task.objective,
            run,
            {"input_ids": 0},
            accelerator,
        )
        losses.append(seen.losses)
        assert name
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_what_a_launcher_left_in_the_environment_changes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "PMI_SIZE": "2",
    }
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    accelerator = accelerator_for("cpu", "float32")
    assert (accelerator.gradient_accumulation_steps, accelerator.num_processes) == (1, 1)
    assert left.items() <= os.environ.items()


def test_a_loss_that_is_no_number_ends_the_run(make_run: Make, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="at step"):
        once(make_run("full", steps=30, learning_rate=1e18, head_learning_rate=1e18), tmp_path)


def test_outputs_that_are_no_numbers_are_not_scored(make_run: Make) -> None:
    """An argmax of them would be the first class."""
    run = make_run("lora")
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, "cpu")
    model = prepared.adaptation.model
    scorer = Scorer(model, task.objective, prepared.tokenizer, accelerator_for("cpu", "float32"), 8)
    test = prepare.encode(run, task, prepared.tokenizer)["test"]
    scorer.predict(test)
    next(iter(prepared.head.values())).data[..., 0] = torch.nan
    with pytest.raises(Diverged, match="outputs are not numbers"):
        scorer.predict(test)
    with pytest.raises(Diverged, match="accuracy is nan"):
        check_figures({"accuracy": float("nan")})
    with pytest.raises(Diverged, match="'nll' is NaN or infinite for 1 of 2 items"):
        check_columns({"prediction": ["a", "b"], "nll": [1.0, float("inf")]})


def test_what_would_not_train_as_it_says_is_refused() -> None:
    """Of two names the optimizer would move it twice in a step; what was to stay would train; of a complex number half would be left."""
    mine, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    modules: Any = SimpleNamespace(left_over=lambda adaptation: [])
    for params, said in (
        ({"first": mine, "again": mine}, "one tensor under two names"),
        (
            {"a": still, "b": mine},
            "a would train, .* and asks for no gradient; make what stays as it is a buffer",
        ),
        (
            {"a": nn.Parameter(torch.ones(2, dtype=torch.complex64))},
            "a is complex, and what trains is float32",
        ),
    ):
        with pytest.raises(Mistaken, match=said):
            prepare._refuse_mistakes(Adaptation(nn.Identity(), params), modules, [])
    prepare._refuse_mistakes(Adaptation(nn.Identity(), {"a": still}), modules, [still])  # the base's own


def test_schedule_warms_up_and_ends_at_zero() -> None:
    factors = [schedule(step, 100, 0.06) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 6) and factors[5] == factors[6] == 1.0
    assert factors[53] == pytest.approx(0.5) and factors[100] == 0.0
    assert schedule(0, 1, 0.06) == 1.0


def test_the_probe_is_logistic_regression_on_pooled_features(make_run: Make, tmp_path: Path) -> None:
    """Its accuracy is that of scikit-learn's own model on features computed here, and no seed moves it."""
    from sklearn.linear_model import LogisticRegression

    run = make_run("head:items=all", task="synthetic")
    _, predictions = once(run, tmp_path / "1")
    _, other = once(dataclasses.replace(run, seed=5), tmp_path / "2")
    pd.testing.assert_frame_equal(predictions, other)
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, "cpu")
    encoded = prepare.encode(run, task, prepared.tokenizer)

    def features(split: str) -> tuple[Any, Any]:
        everything = np.arange(len(encoded[split]))
        batch = batches.collate(encoded[split], everything, {"input_ids": 0}, torch.device("cpu"))
        with torch.no_grad():
            model: Any = prepared.adaptation.model
            return model.pooled(batch["input_ids"], batch["attention_mask"]).numpy(), batch["labels"].numpy()

    (x, y), (v, _) = features("train"), features("test")
    scale = x.std(0) + 1e-6
    scores = [
        (
            LogisticRegression(C=c, max_iter=2000)
            .fit((x - x.mean(0)) / scale, y)
            .predict((v - x.mean(0)) / scale)
        )
        for c in (0.01, 0.1, 1.0, 10.0)
    ]
    assert any(np.array_equal(s, predictions["prediction"]) for s in scores)
