"""The eight commonsense sets of LLM-Adapters: items out of instructions, on small files of its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.data import published
from peftbench.inspection.check_task import check_task
from peftbench.plugins.build import build_task

WORDS = {
    "boolq": ("true", "false"),
    "piqa": ("solution1", "solution2"),
    "social_i_qa": ("answer1", "answer2", "answer3"),
    "hellaswag": ("ending1", "ending2", "ending3", "ending4"),
    "winogrande": ("option1", "option2"),
    "ARC-Challenge": ("answer1", "answer2", "answer3", "answer4"),
    "ARC-Easy": ("answer1", "answer2", "answer3", "answer4"),
    "openbookqa": ("answer1", "answer2", "answer3", "answer4"),
}


def item(words: tuple[str, ...], i: int) -> dict[str, str]:
    options = "\n\n".join(f"{word.capitalize()}: thing {i}" for word in words)
    answer = words[i % len(words)]
    text = f"Please choose the correct one: case {i}?\n\n{options}\n\nAnswer format: {'/'.join(words)}"
    return {"instruction": text, "input": "", "output": f"the correct answer is {answer}", "answer": answer}


def written(home: Path, name: str, *more: dict[str, Any]) -> None:
    (home / name).mkdir()
    for split, start, count in (("train", 0, 60), ("test", 100, 12)):
        items = [item(WORDS[name], start + i) for i in range(count)]
        (home / name / f"{split}.json").write_text(json.dumps([*items, *(more if split == "train" else ())]))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `--data-dir`."""
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", WORDS)
def test_each_set_is_read(name: str, data: Path) -> None:
    written(data, name)
    splits = build_task(f"commonsense:set={name}").splits()
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 54, "validation": 6, "test": 12}
    first = splits["test"][0]
    assert first["question"].endswith(f"Answer format: {'/'.join(WORDS[name])}\n\nthe correct answer is")
    assert first["choices"] == list(WORDS[name])
    assert [row["choices"][row["answer"]] for row in splits["test"]] == [
        item(WORDS[name], 100 + i)["answer"] for i in range(12)
    ]


def test_check_passes(data: Path) -> None:
    written(data, "social_i_qa")
    checked = check_task("commonsense:set=social_i_qa")
    assert {one.outcome for one in checked} <= {"pass", "notice"}, checked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "solution3"}, "row 61, column 'answer': 'solution3' is not one of solution1, solution2"),
        ({"instruction": "Which?"}, "row 61, column 'instruction': it has no 'Answer format:', which names the options"),
        ({"instruction": "Which?\nAnswer format: solution1"}, "row 61, column 'instruction': it has 1 option"),
        ({"instruction": None}, "row 61 has no text in 'instruction' or 'answer'"),
    ],
)  # fmt: skip
def test_an_item_that_is_none_is_named(change: dict[str, Any], said: str, data: Path) -> None:
    written(data, "piqa", {**item(("solution1", "solution2"), 0), **change})
    with pytest.raises(UsageError) as caught:
        build_task("commonsense").splits()
    assert said in str(caught.value) and "train.json" in str(caught.value)


def test_what_is_not_here_is_said(data: Path) -> None:
    with pytest.raises(
        UsageError,
        match="the data of ARC-Easy is not here: give --data-dir DIR with ARC-Easy/train.json, ARC-Easy/test.json",
    ):
        build_task("commonsense:set=ARC-Easy").fingerprint()
    with pytest.raises(UsageError, match="set must be one of boolq, piqa"):
        build_task("commonsense:set=arc")
    (data / "piqa").mkdir()
    (data / "piqa" / "train.json").write_text("{}")
    (data / "piqa" / "test.json").write_text("[]")
    with pytest.raises(UsageError, match="is no JSON list with items"):
        build_task("commonsense").splits()
