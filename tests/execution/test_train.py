"""Data, the trainer and the scoring: order, schedule, determinism, the probe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from peftbench import Classification, UsageError
from peftbench.execution import batches, prepare
from peftbench.execution.batches import training_order
from peftbench.execution.execute import execute
from peftbench.execution.train import Diverged, accelerator_for, schedule, train
from peftbench.models.precision import frozen_in
from peftbench.models.streams import stream_seed
from peftbench.plugins import build
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
            prepared.adaptation,
            prepared.head,
            encoded["train"],
            task.objective,
            run,
            {"input_ids": 0},
            accelerator,
        )
        losses.append(seen.losses)
        assert name
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run(make_run: Make, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="at step"):
        once(make_run("full", steps=30, learning_rate=1e18, head_learning_rate=1e18), tmp_path)


def test_schedule_warms_up_and_ends_at_zero() -> None:
    factors = [schedule(step, 100, 0.06) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 6) and factors[5] == factors[6] == 1.0
    assert factors[53] == pytest.approx(0.5) and factors[100] == 0.0
    assert schedule(0, 1, 0.06) == 1.0


def test_every_method_sees_the_same_batches(make_run: Make) -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    one, two, other = (list(training_order(lengths, 16, 80, seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(one) == 80 and all(len(batch) == 16 for batch in one)
    epoch = np.concatenate(one[: 500 // 16])
    assert len(np.unique(epoch)) == len(epoch)


def test_buckets_cut_padding(make_run: Make) -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 5000)
    batches = list(training_order(lengths, 16, 300, 0))
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert 1 - sum(lengths[b].sum() for b in batches) / padded < 0.05
    first_epoch = [lengths[b].mean() for b in batches[:50]]
    assert np.corrcoef(first_epoch, range(50))[0, 1] < 0.5  # not served from short to long


def test_a_split_smaller_than_a_batch_still_trains() -> None:
    assert [len(b) for b in training_order(np.array([3, 4, 5]), 16, 2, 0)] == [3, 3]


def test_collate_pads_and_masks() -> None:
    encoded = batches.Encoded(
        {"input_ids": batches.Ragged(np.array([5, 6, 7, 8, 9, 10]), np.array([0, 2, 3, 6]))},
        {"labels": np.array([0, 1, 0])},
    )
    batch = batches.collate(encoded, np.array([2, 0]), {"input_ids": 99}, torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[8, 9, 10], [5, 6, 99]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [0, 0]
    batch = batches.collate(encoded, np.array([2, 0]), {"input_ids": 99}, torch.device("cpu"), left=True)
    assert batch["input_ids"].tolist() == [[8, 9, 10], [99, 5, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]


def test_tokens_are_cached_and_the_cache_is_keyed(make_run: Make) -> None:
    import datasets

    calls = []

    def load() -> dict[str, Any]:
        calls.append(1)
        return {
            name: datasets.Dataset.from_dict({"text": ["ab", "c"], "label": [0, 1]})
            for name in execute_splits
        }

    execute_splits = ("train", "validation", "test")
    objective = Classification(labels=("a", "b"))
    from peftbench.models.starters import byte_tokenizer

    tokenizer = byte_tokenizer()
    arguments = ("t", objective, load, tokenizer)
    first = batches.encode(*arguments, 16, "key-1")
    again = batches.encode(*arguments, 16, "key-1")
    assert len(calls) == 1 and np.array_equal(
        first["test"].lists["input_ids"].values, again["test"].lists["input_ids"].values
    )
    batches.encode(*arguments, 8, "key-1")
    batches.encode(*arguments, 16, "key-2")
    assert len(calls) == 3
    assert first["train"].lengths.tolist() == [4, 3]
    assert first["train"].groups(np.array([1, 0])).tolist() == ["1", "0"]


def test_an_empty_split_is_named() -> None:
    import datasets

    full = datasets.Dataset.from_dict({"text": ["ab"], "label": [0]})
    with pytest.raises(UsageError, match="no rows in its validation split"):
        batches.encode(
            "t",
            Classification(("a", "b")),
            lambda: {"train": full},
            lambda *a, **k: {"input_ids": [[1]]},
            8,
            "key-3",
        )


def test_the_probe_is_logistic_regression_on_pooled_features(make_run: Make, tmp_path: Path) -> None:
    """Its accuracy is that of scikit-learn's own model on features computed here, and no seed moves it."""
    from sklearn.linear_model import LogisticRegression

    run = make_run("head", task="synthetic")
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


def test_streams_are_apart() -> None:
    names = [("init", "lora", "a"), ("init", "lora", "b"), ("head",), ("order",), ("dropout",)]
    assert len({stream_seed(seed, *n) for n in names for seed in (0, 1)}) == 10


def test_bfloat16_compute_keeps_float32_weights(make_run: Make, tmp_path: Path) -> None:
    run = make_run("full", dtype="bfloat16", steps=2)
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, "cpu")
    encoded = prepare.encode(run, task, prepared.tokenizer)
    accelerator = accelerator_for("cpu", "bfloat16")
    train(
        prepared.adaptation,
        prepared.head,
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
