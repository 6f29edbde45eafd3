"""Objectives answer for themselves: nobody else asks what kind one is, and a stranger's own kind runs like the built-in ones."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peftbench import Choice, Classification, Completion, Objective, Regression
from peftbench.execution.execute import execute
from peftbench.inspection.check_method import check_file
from peftbench.records.runs import Conditions

CORE = Path(__file__).resolve().parents[2] / "peftbench"
BUILT_IN = {"Classification", "Completion", "Regression", "PerItem"}
CONDITIONS = Conditions()
OWN = """
from dataclasses import dataclass

import datasets
import numpy as np
from peftbench import Metric, Objective, task


@dataclass(frozen=True)
class Signs(Objective):
    \"\"\"The sign of one number, by a hinge.\"\"\"

    inputs = ("words",)
    target = "sign"
    outputs = 1
    metric = Metric("right_signs")

    def encode(self, tokenizer, rows, max_length):
        tokens = tokenizer(rows["words"], truncation=True, max_length=max_length, return_attention_mask=False)
        return {**tokens, "labels": [float(sign) for sign in rows["sign"]]}

    def loss(self, logits, batch):
        return (1 - logits.float()[:, 0] * batch["labels"]).clamp(min=0).mean()

    def weight(self, batch):
        return len(batch["labels"])

    def predict(self, logits, batch):
        margin = logits.float()[:, 0] * batch["labels"]
        twice = logits[:, [0, 0]].float().sign()  # several numbers an item
        found = {"prediction": twice, "reference": batch["labels"][:, None].expand(-1, 2), "nll": (1 - margin).clamp(min=0)}
        return {name: values.cpu().numpy() for name, values in found.items()}

    def score(self, predictions, references):
        assert predictions.shape == references.shape and predictions.dtype.kind in "if"
        return {"right_signs": float(np.mean(predictions == references))}


@task("signs", version="1")
@dataclass(frozen=True)
class SignTask:
    \"\"\"A task with an objective of its own.\"\"\"

    @property
    def objective(self):
        return Signs()

    def fingerprint(self):
        return "1"

    def splits(self):
        def rows(name):
            return datasets.Dataset.from_list([{"words": f"{name} {i}", "sign": (-1) ** i} for i in range(24)])

        return {name: rows(name) for name in ("train", "validation", "test")}
"""


def questions_of_kind(tree: ast.Module) -> Iterator[ast.AST]:
    """Where a module asks an objective what it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and BUILT_IN & {alias.name for alias in node.names}:
            yield node
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "kind"
            and ast.unparse(node.value).endswith("objective")
        ):
            yield node
        asks = isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "isinstance",
            "getattr",
            "hasattr",
            "type",
        )
        if asks and ast.unparse(node).partition("(")[2].partition(",")[0].endswith("objective"):
            yield node


def test_nobody_else_asks_what_kind_an_objective_is() -> None:
    for file in CORE.rglob("*.py"):
        if file.parent.name != "objectives" and file != CORE / "__init__.py":
            found = list(questions_of_kind(ast.parse(file.read_text(encoding="utf-8"))))
            assert not found, f"{file}: {ast.unparse(found[0])}"


@pytest.mark.parametrize("code", ["if self.objective.kind == 'a': pass", "getattr(objective, 'b', None)", "isinstance(task.objective, str)", "from ..objectives.completion import Completion"])  # fmt: skip
def test_such_a_question_is_found(code: str) -> None:
    assert list(questions_of_kind(ast.parse(code)))


@pytest.mark.parametrize("objective", [Classification(("a", "b")), Regression(), Completion(), Choice()])
def test_a_built_in_objective_has_every_member(objective: Objective) -> None:
    members = [name for name in vars(Objective) if not name.startswith("_")]
    assert len(members) > 15 and all(hasattr(objective, name) for name in members)
    assert objective.reported[0] == objective.metric and len(objective.reported) == 2


def test_an_objective_of_ones_own_is_checked_and_runs(tmp_path: Path, make_run: Any) -> None:
    file = tmp_path / "signs.py"
    file.write_text(OWN, encoding="utf-8")
    checked = check_file(str(file), (), tmp_path)
    assert {one.outcome for one in checked} == {"pass"} and len(checked) == 7, checked
    run = dataclasses.replace(make_run(task="signs"), plugins=(str(file),))
    record = execute(run, tmp_path, CONDITIONS)
    assert record.quality is not None and set(record.quality) == {"right_signs", "nll"}
    assert record.constant == {"loss": None, "score": None}  # it does not say
    assert record.metric == record.metrics[0] == {"name": "right_signs", "higher_is_better": True, "is_share": True, "unit": "%", "has_column": False}  # type: ignore[index]  # fmt: skip
