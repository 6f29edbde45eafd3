"""What tasks ask of a model: metrics against their libraries' own definitions, losses, parts, and the probe of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tokenizers
import torch

from peftbench import PeftbenchError, UsageError
from peftbench.execution import batches
from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.completion import Completion
from peftbench.objectives.figures import figures
from peftbench.objectives.item_metrics import ITEM_METRICS, ItemMetric
from peftbench.objectives.jackknife import pseudo_values
from peftbench.objectives.labels import Classification, Regression


def test_metrics_equal_their_formulas() -> None:
    """By hand, from the counts of a fixed case: 3 true positives, 1 false one, 2 missed, 4 true negatives."""
    references = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    predictions = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    found = {name: metric.formula(predictions, references) for name, metric in ITEM_METRICS.items()}
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert found["macro_f1"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert found["matthews"] == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))
    assert found["pearson"] == pytest.approx(found["matthews"])  # of two binary variables they are one
    assert found["rmse"] == pytest.approx(math.sqrt(3 / 10))


def test_ranks_matter_to_spearman_alone() -> None:
    references = np.array([1.0, 2.0, 3.0, 4.0])
    predictions = np.exp(references)
    assert ITEM_METRICS["spearman"].formula(predictions, references) == pytest.approx(1)
    assert 0.8 < ITEM_METRICS["pearson"].formula(predictions, references) < 0.99


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_a_constant_answer_explains_nothing(name: str) -> None:
    assert ITEM_METRICS[name].formula(np.zeros(4), np.array([0, 1, 0, 1])) == 0.0


def test_the_primary_metric_decides_whether_items_have_scores() -> None:
    logits, batch = torch.tensor([[2.0, 1.0], [0.0, 3.0]]), {"labels": torch.tensor([0, 0])}
    assert Classification(("a", "b")).predict(logits, batch)["score"].tolist() == [1, 0]
    by_matthews = Classification(("a", "b"), metrics=("matthews", "accuracy"))
    assert (
        "score" not in by_matthews.predict(logits, batch) and by_matthews.metric == ITEM_METRICS["matthews"]
    )
    assert set(by_matthews.score(np.array([0, 1]), np.array([0, 0]))) == {"matthews", "accuracy"}
    of_ones_own = ItemMetric(
        "accuracy", formula=lambda predictions, references: 1.0
    )  # no mean of what is equal
    assert "score" not in Classification(("a", "b"), metrics=(of_ones_own,)).predict(logits, batch)


def test_two_texts_stay_two_at_any_length() -> None:
    """Neither side vanishes, and what is cut or has no token of its own is told."""
    tokenizer = byte_tokenizer()
    ends = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.sep_token_id]
    objective = Classification(("a", "b"))
    rows: dict[str, list[Any]] = {
        "text": ["a" * 30, "a", "a"],
        "text_pair": ["b", "b" * 30, "b"],
        "label": [0, 1, 0],
    }
    for length in (5, 6, 9, 16):
        found = objective.encode(tokenizer, rows, length)
        assert found["cut"] == [1, 1, 0] and found["blank"] == [0, 0, 0]
        for ids in found["input_ids"]:
            said = tokenizer.decode([i for i in ids if i not in ends])
            assert len(ids) <= length and "a" in said and "b" in said
    with pytest.raises(
        UsageError, match="--max-length 4: the tokenizer puts 3 of its own into every item; ask for 5"
    ):
        objective.encode(tokenizer, rows, 4)
    one: dict[str, list[Any]] = {"text": ["abc", "a", ""], "label": [0, 1, 1]}
    assert objective.encode(tokenizer, one, 4) == {
        **tokenizer(one["text"], truncation=True, max_length=4, return_attention_mask=False),
        "cut": [1, 0, 0], "blank": [0, 0, 1], "labels": [0, 1, 1],
    }  # fmt: skip
    with pytest.raises(UsageError, match="--max-length 1: the tokenizer puts 2 of its own"):
        objective.encode(tokenizer, one, 1)


def test_a_tokenizer_that_puts_nothing_between_two_texts_is_given_an_end() -> None:
    """Else "a" and "bc" would read as "ab" and "c" do; a text without a token is one padding token."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.Sequence([])
    tokenizer.eos_token = tokenizer.sep_token
    encode = Classification(("a", "b")).encode
    rows: dict[str, list[Any]] = {"text": ["a", "ab"], "text_pair": ["bc", "c"], "label": [0, 1]}
    one, other = encode(tokenizer, rows, 16)["input_ids"]
    assert one != other and one.count(tokenizer.eos_token_id) == other.count(tokenizer.eos_token_id) == 1
    empty = encode(tokenizer, {"text": ["", "a"], "label": [0, 1]}, 16)
    assert empty["input_ids"][0] == [tokenizer.pad_token_id] and empty["blank"] == [1, 0]


def test_regression_predicts_in_the_tasks_own_unit() -> None:
    objective = Regression(centre=100.0, spread=50.0)
    tokens = objective.encode(
        lambda *texts, **options: {"input_ids": [[1]]}, {"text": ["x"], "label": [125]}, 8
    )
    assert tokens["labels"] == [0.5]
    batch = {"labels": torch.tensor([0.5, -1.0])}
    found = objective.predict(torch.tensor([[0.5], [1.0]]), batch)
    assert found["prediction"].tolist() == [125, 150] and found["reference"].tolist() == [125, 50]
    assert found["nll"].tolist() == [0, 2]
    assert float(objective.loss(torch.tensor([[0.5], [1.0]]), batch)) == 2.0
    with pytest.raises(ValueError, match="above 0"):
        Regression(spread=0.0)
    with pytest.raises(ValueError, match="unknown metric 'acc'; known: accuracy"):
        Classification(("a", "b"), metrics=("acc",))
    dates = Regression(centre=1.7e9, spread=1000.0)
    apart = dates.predict(torch.linspace(-1, 1, 100)[:, None], {"labels": torch.linspace(-1, 1, 100)})
    assert len(np.unique(apart["reference"])) == 100


def test_parts_have_figures_of_their_own() -> None:
    frame = pd.DataFrame(
        {
            "prediction": [0, 0, 1, 1],
            "reference": [0, 0, 1, 0],
            "nll": [0.1, 0.2, 0.3, 2.0],
            "score": [1, 1, 1, 0],
            "group": list("aabb"),
            "part": ["seen", "seen", "unseen", "unseen"],
        }
    )
    objective = Classification(("no", "yes"))
    found = figures(objective, frame)
    assert (found["accuracy"], found["accuracy (seen)"], found["accuracy (unseen)"]) == (0.75, 1.0, 0.5)
    assert found["nll (unseen)"] == pytest.approx(1.15)
    values = pseudo_values(objective, frame, found)
    assert "accuracy" not in values and list(values["accuracy (seen)"]) == [1.0, 1.0]


def test_the_probe_of_a_number_is_ridge_regression(
    make_run: Callable[..., Any], checkpoint: Callable[[str], str]
) -> None:
    """On features that hold the answer exactly it finds it, up to the smallest penalty."""
    from peftbench.execution import prepare
    from peftbench.models.load import load_model
    from peftbench.models.resolve import resolve_model

    run = make_run("head", checkpoint("bert"))
    loaded = load_model(resolve_model(run.model), Regression(), 0)
    adaptation = prepare.inject(run, loaded, "cpu").adaptation
    tokens = torch.randint(5, 200, (64, 7), generator=torch.Generator().manual_seed(0))
    model: Any = adaptation.model
    with torch.no_grad():
        features = model.pooled(tokens, torch.ones_like(tokens))
    wanted = features @ torch.linspace(-1, 1, features.shape[1]) + 3.0
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": wanted}
    assert adaptation.fit is not None and adaptation.fit(lambda split: [batch]) == 64
    with torch.no_grad():
        found = model(tokens, torch.ones_like(tokens)).logits[:, 0]
    # The least penalty of the four, 1/10 on 64 standardised items, shrinks a little.
    assert (found - wanted).square().mean() < 0.01 * wanted.var()


def test_long_columns_are_mapped_from_files_not_held(cache: Any) -> None:
    """An encoded split's tokens are views of files: what it costs does not grow with its rows."""
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a b"] * 50, "label": [1.5] * 50, "group": ["g"] * 50})

    def tokenizer(texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1, 2, 3]] * len(texts)}

    splits = dict.fromkeys(("train", "validation", "test"), rows)
    encoded = batches.encode_splits("t", Regression(), lambda: splits, tokenizer, 8, "mapped")["train"]
    values = encoded.lists["input_ids"].values
    assert isinstance(values.base, np.memmap) and values.dtype == np.int32 and len(encoded) == 50
    assert encoded.numbers["labels"].tolist() == [1.5] * 50
    assert encoded.groups(np.array([3, 4])).tolist() == ["g", "g"] and not encoded.has("part")
    few = encoded.some(np.array([0, 49]))
    assert len(few) == 2 and few.groups(np.array([1])).tolist() == ["g"]


def test_what_one_answer_to_all_comes_to() -> None:
    objective = Classification(("a", "b"))
    labels = np.array([0, 0, 0, 1])
    assert objective.constant_loss(labels) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert objective.constant_score(labels) == 0.75
    assert Classification(("a", "b"), metrics=("matthews",)).constant_score(labels) == 0.0
    # F1 is of label 1, however rare it is: 2 * 1 / (2 * 1 + 3).
    assert Classification(("a", "b"), metrics=("f1",)).constant_score(labels) == pytest.approx(0.4)
    numbers = np.array([1.0, 2.0, 6.0])
    assert Regression().constant_loss(numbers) == pytest.approx(14 / 3)
    assert Regression(metrics=("rmse",)).constant_score(numbers) == pytest.approx(math.sqrt(14 / 3))
    off = ItemMetric("off", higher_is_better=False, formula=lambda a, b: float(np.abs(a - b).mean()))
    assert Regression(metrics=(off,)).constant_score(numbers) == pytest.approx(5 / 3)  # of the median


def test_one_text_for_all_is_judged_where_texts_are_labels() -> None:
    objective = Completion(metrics=("exact_match",))
    assert objective.constant_loss(np.array([-100, 5, 7, -100, 5, 7])) == pytest.approx(math.log(2))
    assert objective.constant_score(references("yes", "no", "yes", "yes")) == 0.75
    assert objective.constant_score(references(*"abcdefgh")) is None


def references(*texts: str) -> np.ndarray[Any, Any]:
    found = np.empty(len(texts), dtype=object)
    found[:] = [[text] for text in texts]
    return found


@pytest.mark.parametrize(
    ("objective", "label"),
    [(Classification(("a", "b")), label) for label in ("a", 2, -100, 0.5, None)]
    + [(Regression(), label) for label in ("a", None, math.nan)],
)
def test_a_label_that_is_none_is_said(objective: Any, label: Any) -> None:
    """Of a plugin's rows: -100 would be left out of the loss in silence, the others be an error inside torch."""
    with pytest.raises(PeftbenchError, match=f"label {label!r} is not an? "):
        objective.encode(byte_tokenizer(), {"text": ["x", "y"], "label": [1, label]}, 8)
    assert objective.encode(byte_tokenizer(), {"text": ["x", "y"], "label": [True, 0.0]}, 8)["labels"] == [
        1,
        0,
    ]
