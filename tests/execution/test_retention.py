"""What a model keeps of other tasks while it is trained on one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from peftbench.execution import prepare, retention
from peftbench.execution.execute import execute
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for
from peftbench.objectives.figures import figures
from peftbench.plugins.build import build_task
from peftbench.records.record import Record
from peftbench.records.results import RETAINED, RETAINED_PSEUDO_VALUES
from peftbench.records.runs import Conditions, Run

from ..support.plan import Make

LEARNED = {"learning_rate": 1e-2, "steps": 12}


@pytest.fixture
def others(tmp_path: Path) -> tuple[str, str]:
    """SPECs of two tasks of writing: one like `pairs`, so that what is learned there shows here, and one with another metric."""
    found = []
    for name, metric in (("like", "rouge_l"), ("number", "bleu")):
        rows = [{"q": f"ask of {name} {i}", "a": f"say {i % 3} now {i % 2}"} for i in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found.append(
            f"jsonl:path={tmp_path / name}.jsonl:prompt=q:completion=a:metric={metric}:max_new_tokens=8"
        )
    return found[0], found[1]


@pytest.fixture
def done(make_run: Make, tmp_path: Path, pairs: str) -> Callable[..., tuple[Record, Path]]:
    """A run on `pairs` that is done, and where its files are."""

    def do(
        method: str, retain: tuple[str, ...] = (), model: str = "tiny-decoder", **changes: Any
    ) -> tuple[Record, Path]:
        run: Run = make_run(
            method, model, task=f"{pairs}:max_new_tokens=8", retain=retain, retain_items=5 if retain else 0, **{**LEARNED, **changes}
        )  # fmt: skip
        out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        out.mkdir()
        return execute(run, out, Conditions(keep_weights=True)), out

    return do


def test_what_changes_nothing_retains_exactly_everything(
    done: Callable[..., tuple[Record, Path]], others: tuple[str, str]
) -> None:
    for method, rate in (("head", 1e-2), ("lora", 0.0)):
        record, out = done(method, others, learning_rate=rate)
        assert record.retained is not None and len(record.retained) == 2
        assert all(told["before"] == told["after"] for told in record.retained)
        by_item = pd.read_parquet(out / RETAINED)
        assert (by_item["nll_before"] == by_item["nll_after"]).all() and set(by_item["task"]) == {0, 1}
        blocks = pd.read_parquet(out / RETAINED_PSEUDO_VALUES)
        assert (blocks["before"] == blocks["after"]).all() and len(blocks) == 10


def test_looking_changes_nothing_of_the_trained_task(
    done: Callable[..., tuple[Record, Path]], others: tuple[str, str]
) -> None:
    for method in ("full", "lora"):
        (plain, at), (looked, there) = done(method), done(method, others)
        assert plain.retained is None and not (at / RETAINED).exists()
        assert looked.quality == plain.quality and looked.training and plain.training
        assert looked.training["losses"] == plain.training["losses"]
        assert looked.checks == plain.checks and looked.constant == plain.constant
        for name in ("predictions.parquet", "pseudo_values.parquet"):
            pd.testing.assert_frame_equal(
                pd.read_parquet(at / name), pd.read_parquet(there / name), check_exact=True
            )
        one, other = load_file(at / "adapter.safetensors"), load_file(there / "adapter.safetensors")
        assert one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)


def test_the_scores_are_those_of_the_bare_and_of_the_trained_model(
    done: Callable[..., tuple[Record, Path]], others: tuple[str, str]
) -> None:
    """What one task says does not hang on the other one, nor on the order; what is learned shows on a task that is alike."""
    record, out = done("full", others, steps=60)
    turned, there = done("full", others[::-1], steps=60)
    assert record.retained is not None and turned.retained is not None
    assert record.retained == turned.retained[::-1]
    one, other = pd.read_parquet(out / RETAINED), pd.read_parquet(there / RETAINED)
    pd.testing.assert_frame_equal(
        one[one["task"] == 0].reset_index(drop=True),
        other[other["task"] == 1].reset_index(drop=True).assign(task=0),
        check_exact=True,
    )
    like, number = record.retained
    assert (like["metric"]["name"], number["metric"]["name"]) == ("rouge_l", "bleu")
    assert like["items"] == number["items"] == 5
    assert (
        like["after"]["nll"] < like["before"]["nll"] and like["after"]["rouge_l"] > like["before"]["rouge_l"]
    )
    # Once more by hand, of the model that nothing was done to.
    run = record.run
    loaded = prepare.load_base(run, prepare.objective_of(run), "cpu")
    objective = build_task(others[0]).objective
    (kept, _) = retention.kept_of(run, loaded.tokenizer)
    scorer = Scorer(
        loaded.model, objective, loaded.tokenizer, accelerator_for("cpu", "float32"), 3, loaded.output
    )
    frame = scorer.predict(kept.items)
    scorer.write(kept.items, frame)
    found = figures(objective, frame)
    assert like["before"] == pytest.approx(found, rel=1e-5)
    assert one[one["task"] == 0]["nll_before"].to_numpy() == pytest.approx(frame["nll"].to_numpy(), rel=1e-5)


def test_items_are_the_same_for_all_methods_and_seeds(
    done: Callable[..., tuple[Record, Path]], others: tuple[str, str]
) -> None:
    frames = [
        pd.read_parquet(done(method, others[:1], seed=seed, steps=1)[1] / RETAINED)
        for method, seed in (("full", 0), ("full", 1), ("lora", 0), ("prefix", 0))
    ]
    columns = ["task", "item", "group", "nll_before"]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frames[0][columns], frame[columns], check_exact=True)
    assert not frames[0]["nll_after"].equals(frames[2]["nll_after"])
    assert np.isnan(frames[0]["score_before"]).all()  # ROUGE-L of texts is told by blocks


def test_an_encoder_decoder_retains_too(
    done: Callable[..., tuple[Record, Path]], others: tuple[str, str], checkpoint: Callable[[str], str]
) -> None:
    record, _ = done("lora", others[:1], model=checkpoint("t5"))
    assert record.retained is not None
    (told,) = record.retained
    assert told["before"]["nll"] != told["after"]["nll"]


def test_the_bare_model_is_where_it_is_run(
    make_run: Make, others: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model waits on the host for a method that shrinks it, unless it is to be scored before."""
    monkeypatch.setattr(prepare, "is_for_host", lambda *_: True)
    run = make_run(model="tiny-decoder", task=others[0])
    looks = make_run(model="tiny-decoder", task=others[0], retain=others[1:], retain_items=5)
    assert [prepare.load_base(one, prepare.objective_of(one), "cpu").on_host for one in (run, looks)] == [
        True,
        False,
    ]


def test_its_record_is_read_again(done: Callable[..., tuple[Record, Path]], others: tuple[str, str]) -> None:
    record, _ = done("lora", others, steps=1)
    assert Record.from_text(record.to_text()) == record
