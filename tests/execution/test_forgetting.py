"""What a language model forgets while it is trained on something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.comparison.tuning import trial_runs
from peftbench.execution import prepare
from peftbench.execution.execute import execute
from peftbench.measure.environment import capacity
from peftbench.planning.plan import plan
from peftbench.plugins import build, registry
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Conditions
from peftbench.tables.tabulate import tabulate

from ..support.plan import Make


def test_what_is_forgotten_is_the_loss_on_another_text(make_run: Make, tmp_path: Path, pairs: str) -> None:
    results = []
    for method in ("full", "head", "prefix"):
        for forgets in (None, "synthetic"):
            run = make_run(
                method,
                "tiny-decoder",
                task=pairs,
                steps=8,
                forgetting=forgets,
                learning_rate=0.0 if method == "head" else 1e-2,
            )
            out = tmp_path / f"{method} {forgets}"
            out.mkdir()
            results.append(Result(execute(run, out, Conditions()), out))
    plain, full, _, head, _, prefix = (result.record for result in results)
    assert plain.forgetting is None and plain.quality == full.quality  # looking changes nothing
    assert full.forgetting is not None and head.forgetting is not None and prefix.forgetting is not None
    assert head.forgetting["after_nll"] == head.forgetting["before_nll"] == full.forgetting["before_nll"]
    assert full.forgetting["after_nll"] != full.forgetting["before_nll"]
    assert prefix.forgetting["before_nll"] == full.forgetting["before_nll"]  # without the method
    # By the library's own loss, text by text, over the tokens of all of them.
    loaded = prepare.load_base(full.run, prepare.objective_of(full.run), "cpu")
    texts = list(dict.fromkeys(build.build_task("synthetic").splits()["test"]["text"]))
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, 50).round().astype(int)]
    total, tokens = 0.0, 0
    for text in chosen:
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"][:128]])
        with torch.no_grad():
            total += float(loaded.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    assert full.forgetting["tokens"] == tokens
    assert full.forgetting["before_nll"] == pytest.approx(total / tokens, rel=1e-5)
    (table,) = tabulate(results, "full", ("full", "head"))
    rows = {row.method: row for row in table.rows}
    assert rows["full"].seeds_tried == 1 and rows["full"].forgetting is not None  # each run stands once
    assert rows["head"].forgetting is not None and rows["head"].forgetting.value == 0
    text = registry.get("report", "markdown").target([table])
    assert (
        "| forgetting |" in text.replace("  ", " ").replace("  ", " ")
        and "texts of synthetic, nats per token" in text
    )


def test_an_encoder_has_no_text_to_forget() -> None:
    asked = Comparison(("lora",), models=("tiny-encoder",), tasks=("synthetic",), forgetting="synthetic")
    with pytest.raises(UsageError, match="--forgetting is the loss of a language model on a text"):
        plan(asked, capacity())


def test_forgetting_is_of_the_reported_runs_alone(pairs: str) -> None:
    asked = Comparison(
        ("lora",), models=("tiny-decoder",), tasks=(pairs,), forgetting="synthetic", seeds=1, baselines=False
    )
    planned = plan(asked, capacity())
    assert {(item.run.kind, item.run.forgetting) for item in planned} == {
        ("training", "synthetic"), ("profile", None), ("latency", None),
    }  # fmt: skip
    without = plan(dataclasses.replace(asked, forgetting=None), capacity())
    keys = [{item.run.kind: item.run.key for item in its} for its in (planned, without)]
    assert [kind for kind in keys[0] if keys[0][kind] != keys[1][kind]] == ["training"]
    reported, plain = (next(i for i in its if i.run.kind == "training") for its in (planned, without))
    assert trial_runs(reported, 1)[0].run.key == trial_runs(plain, 1)[0].run.key
    assert reported.run.identity["forgetting"]


def test_what_failed_with_forgetting_hides_nothing_and_texts_are_not_mixed(
    make_run: Make, tmp_path: Path, pairs: str
) -> None:
    def done(method: str, **changes: Any) -> Result:
        out = tmp_path / f"{method} {len(list(tmp_path.iterdir()))}"
        out.mkdir()
        return Result(
            execute(make_run(method, "tiny-decoder", task=pairs, steps=1, **changes), out, Conditions()), out
        )

    plain = done("lora")
    lost = make_run("lora", "tiny-decoder", task=pairs, steps=1, forgetting="synthetic")
    (table,) = tabulate(
        [plain, Result(Record(lost, lost.key, "failed", "killed", started_at="9"), None)], "full", ()
    )
    assert (table.rows[0].status, table.rows[0].seeds_good, table.rows[0].seeds_tried) == ("ok", 1, 1)
    older, newer = done("lora", forgetting=pairs), done("full", forgetting="synthetic")
    (table,) = tabulate([older, newer], "full", ())
    rows = {row.method: row for row in table.rows}
    assert table.settings["forgetting"] == "synthetic"
    assert rows["full"].forgetting is not None and rows["lora"].forgetting is None
