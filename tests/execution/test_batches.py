"""Batches: the same order for every method, little padding, tokens made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

from peftbench import Classification, UsageError
from peftbench.execution import batches, cost, prepare
from peftbench.execution.batches import Encoded, Ragged, training_order
from peftbench.execution.execute import execute
from peftbench.execution.parts import Parts
from peftbench.plugins import build
from peftbench.records.runs import ALONE, Budget, Run
from peftbench.tables.flops import flops_of

Make = Callable[..., Run]


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


@pytest.mark.parametrize("items", [17, 47, 95, 158, 803])
def test_every_row_is_trained_on_and_a_batch_is_full(items: int) -> None:
    """The longest, too: what an epoch leaves over goes into the next one."""
    lengths = np.random.default_rng(0).integers(5, 40, items)
    seen = np.zeros(items, int)
    for batch in training_order(lengths, 16, 20 * items // 16, 0):
        assert len(batch) == len(np.unique(batch)) == 16
        seen[batch] += 1
    assert set(seen) <= {19, 20}


def test_a_split_smaller_than_a_batch_still_trains() -> None:
    assert [len(b) for b in training_order(np.array([3, 4, 5]), 16, 2, 0)] == [3, 3]
    budget = Budget("custom", None, 4.0, 16, 1, 32)
    assert [budget.resolve_steps(items) for items in (3, 16, 24)] == [
        4,
        4,
        6,
    ]  # each sees every item four times


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
    first = batches.encode_splits(*arguments, 16, "key-1")
    again = batches.encode_splits(*arguments, 16, "key-1")
    assert len(calls) == 1 and np.array_equal(
        first["test"].lists["input_ids"].values, again["test"].lists["input_ids"].values
    )
    batches.encode_splits(*arguments, 8, "key-1")
    batches.encode_splits(*arguments, 16, "key-2")
    assert len(calls) == 3
    assert first["train"].lengths.tolist() == [4, 3]
    apart = first["train"].groups(np.array([1, 0, 1])).tolist()
    assert apart[0] == apart[2] != apart[1]  # rows that read alike tell one thing


def test_shares_of_several_labels_stay_shares() -> None:
    import datasets

    class Shares(Classification):
        def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
            return {"input_ids": [[5, 6] for _ in rows["labels"]], "labels": rows["labels"]}

    its = datasets.Dataset.from_dict({"labels": [[0.25, 0.5, 1.0], [0.0, 0.75, 0.25]]})
    splits = dict.fromkeys(("train", "validation", "test"), its)
    split = batches.encode_splits("t", Shares(("a", "b")), lambda: splits, None, 8, "shares")["test"]
    batch = batches.collate(split, np.array([1, 0]), {}, torch.device("cpu"))
    assert batch["labels"].tolist() == [[0.0, 0.75, 0.25], [0.25, 0.5, 1.0]]
    assert batch["input_ids"].dtype == torch.int64


@pytest.mark.parametrize(
    ("lost", "said"), [(1, "gives 1 items of 2 rows of its train split"), (0, "pads its items")]
)
def test_items_that_are_left_out_or_padded_are_refused(lost: int, said: str) -> None:
    """A padded item's mask would not be read, and its padding would."""
    import datasets

    class Own(Classification):
        def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
            told = {
                "input_ids": [[5, 6], [7, 0]],
                "attention_mask": [[1, 1], [1, 0]],
                "labels": rows["label"],
            }
            return {name: its[lost:] for name, its in told.items()}

    splits = dict.fromkeys(
        ("train", "validation", "test"), datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    )
    with pytest.raises(UsageError, match=said):
        batches.encode_splits("t", Own(("a", "b")), lambda: splits, None, 8, f"own-{lost}")


def test_an_empty_split_is_named() -> None:
    import datasets

    grouped = datasets.Dataset.from_dict({"text": ["ab", "c"], "label": [0, 1], "group": ["g", None]})
    with pytest.raises(UsageError, match="column 'group' of its train split is None in some rows"):
        splits = dict.fromkeys(("train", "validation", "test"), grouped)
        batches.encode_splits("t", Classification(("a", "b")), lambda: splits, None, 8, "key-4")

    full = datasets.Dataset.from_dict({"text": ["ab"], "label": [0]})
    with pytest.raises(UsageError, match="no rows in its validation split"):
        batches.encode_splits(
            "t",
            Classification(("a", "b")),
            lambda: {"train": full},
            lambda *a, **k: {"input_ids": [[1]]},
            8,
            "key-3",
        )


def test_what_a_profile_counts_tells_the_steps_of_every_seed(make_run: Make) -> None:
    def truth(parts: list[list[int]]) -> int:
        return sum(items * (7 * width**2 + 1000 * width + 5) for items, width in parts)

    lengths = np.random.default_rng(0).integers(3, 60, 200)
    tokens = Ragged(np.zeros(lengths.sum(), np.int64), np.concatenate([[0], np.cumsum(lengths)]))
    data = Encoded({"input_ids": tokens}, {})
    parts = Parts(data, Classification(("a", "b")), {}, torch.device("cpu"))
    _, *chosen = cost._batches(make_run(kind="profile", steps=1), parts)
    counted = [(step := parts.shape(items), truth(step)) for items in chosen]
    for seed in range(4):
        (items,) = training_order(lengths, 8, 1, seed)
        step = parts.shape(items)
        assert flops_of(counted, [step]) == pytest.approx([truth(step)])


def test_a_part_of_the_items_is_scored_as_in_the_whole(make_run: Make, tmp_path: Path) -> None:
    run = make_run("lora", steps=2)
    found = {}
    for count in (None, 12):
        out = tmp_path / str(count)
        out.mkdir()
        record = execute(
            dataclasses.replace(run, budget=dataclasses.replace(run.budget, scored_items=count)), out, ALONE
        )
        found[count] = record, pd.read_parquet(out / "predictions.parquet")
    loaded = prepare.load_base(run, prepare.objective_of(run), "meta")
    test = prepare.encode(run, build.build_task(run.task), loaded.tokenizer)["test"]
    part = batches.scored_items(test, 12)
    (whole, everything), (of_part, some) = found[None], found[12]
    assert whole.scoring is not None and of_part.scoring is not None and whole.run.key != of_part.run.key
    assert [of_part.scoring[what] for what in ("items", "rows", "of_items")] == [len(part), len(part), 40]
    assert 12 <= len(part) < 40 and whole.scoring["rows"] == 40
    np.testing.assert_allclose(some["nll"], everything["nll"].to_numpy()[part], rtol=1e-5)


def test_a_part_has_of_each_group_its_share_and_of_an_item_all_rows() -> None:
    """24 films of 1 to 30 reviews, one of them cut to the same tokens three times."""
    films = np.repeat(np.arange(24), np.linspace(1, 30, 24).astype(int)).astype(str)
    tokens = np.arange(len(films))
    tokens[-3:] = tokens[-1]
    rows = Ragged(tokens, np.arange(len(films) + 1))
    split = Encoded({"input_ids": rows}, {}, pyarrow.table({"group": films}))
    everything = batches.scored_items(split, None)
    assert len(everything) == len(films)
    before: set[int] = set()
    for count in (40, 41, 120, 300):
        part = batches.scored_items(split, count)
        assert count <= len(part) <= count + 2 and before < set(part) and list(part) == sorted(part)
        before = set(part)
        assert len(before & set(everything[-3:])) in (0, 3)
        for film in set(films):
            size, its = (films == film).sum(), (films[part] == film).sum()
            assert abs(its - len(part) / len(films) * size) < (3.5 if film == "23" else 1.1)
    shuffled = np.random.default_rng(0).permutation(len(films))
    for whole_groups in (False, True):
        part = batches.scored_items(split, 120, whole_groups)
        again = batches.scored_items(split.some(shuffled), 120, whole_groups)
        assert set(tokens[shuffled[again]]) == set(tokens[part])
        assert whole_groups == (not set(films[part]) & set(np.delete(films, part)))
