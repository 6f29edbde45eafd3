"""The user's own multiple-choice questions: every answer as an index, splits by question and group, errors by row and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from peftbench import UsageError
from peftbench.execution.execute import execute
from peftbench.inspection.check_task import check_task
from peftbench.plugins.build import build_task, notices_of
from peftbench.records.runs import Conditions

from ..support.commands import peftbench

Rows = list[dict[str, Any]]


def quiz(count: int = 40) -> Rows:
    return [
        {"question": f"{i} + 1?", "choices": [str(i + 1), "no idea"] + ["or"] * (i % 2), "answer": i % 2} for i in range(count)
    ]  # fmt: skip


def written(file: Path, rows: Rows) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"choice:path={file}"


def rows_of(task: str) -> dict[str, Rows]:
    return {split: rows.to_list() for split, rows in build_task(task).splits().items()}


def test_rows_are_cut_and_the_cut_does_not_follow_their_order(tmp_path: Path) -> None:
    task = written(tmp_path / "quiz.jsonl", quiz())
    found = rows_of(task)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 28, "validation": 4, "test": 8}
    assert sorted(str(row) for rows in found.values() for row in rows) == sorted(map(str, quiz()))
    assert notices_of(build_task(task)) == ["validation and test cut off the training rows (split_seed 0)"]
    turned = rows_of(written(tmp_path / "turned.jsonl", quiz()[::-1]))
    assert turned == found
    assert rows_of(f"{task}:split_seed=1") != found


@pytest.mark.parametrize(
    ("answer", "index"), [(1, 1), ("B", 1), ("second", 1), (" second ", 1), ("A", 0), (0, 0), ("first", 0)]
)
def test_an_answer_is_an_index_a_letter_or_an_option(answer: Any, index: int, tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "choices": ["first", "second"], "answer": answer} for i in range(20)]
    assert {row["answer"] for row in rows_of(written(tmp_path / "a.jsonl", rows))["train"]} == {index}


def test_parquet_other_columns_groups_and_files_of_splits(tmp_path: Path) -> None:
    rows = [
        {"q": one["question"], "o": one["choices"], "a": one["answer"], "who": i // 4}
        for i, one in enumerate(quiz())
    ]
    file = tmp_path / "quiz.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), file)
    written(tmp_path / "test.jsonl", [{**row, "who": "x"} for row in rows[:3]])
    task = f"choice:path={file}:question=q:choices=o:answer=a:group=who:test={tmp_path / 'test.jsonl'}:metric=acc_norm"
    found = rows_of(task)
    assert [row["question"] for row in found["test"]] == ["0 + 1?", "1 + 1?", "2 + 1?"]
    groups = {split: {row["group"] for row in its} for split, its in found.items()}
    assert not groups["train"] & groups["validation"] and len(found["train"]) + len(found["validation"]) == 40
    assert build_task(task).objective.metric.name == "acc_norm"
    assert notices_of(build_task(task)) == [
        "validation cut off the training rows (split_seed 0), test as given",
        "3 of 3 test rows have a question that is also in the training file",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"choices": ["a"]}, "row 3, column 'choices': it has 1 option; at least two are needed"),
        ({"choices": "a"}, "row 3, column 'choices': it must be a list of texts"),
        ({"choices": ["a", " "]}, "row 3, column 'choices': option 2 of 2 is empty"),
        ({"choices": ["a", "a"]}, "row 3, column 'choices': two options are 'a'"),
        ({"answer": 2}, "row 3, column 'answer': index 2 is not one of its 2 options (0 to 1)"),
        ({"answer": -1}, "row 3, column 'answer': index -1 is not one"),
        ({"answer": "C"}, "row 3, column 'answer': 'C' is not among its 2 options, and no letter of one (A to B)"),
        ({"answer": None}, "row 3, column 'answer': None is no index"),
        ({"answer": True}, "row 3, column 'answer': True is no index"),
        ({"choices": ["B", "A"], "answer": "A"}, "row 3, column 'answer': 'A' is one option and the letter of another"),
        ({"question": ""}, "row 3, column 'question': it is empty"),
        ({"question": 5}, "row 3, column 'question': 5 is no text"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_one_line_before_anything_trains(
    row: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"question": "q", "choices": ["a", "b"], "answer": 0}
    task = written(tmp_path / "bad.jsonl", [*quiz(2), {**good, **row}])
    with pytest.raises(UsageError) as caught:
        build_task(task).splits()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_line_says_it_and_ends_with_2(tmp_path: Path) -> None:
    task = written(
        tmp_path / "bad.jsonl", [*quiz(30), {"question": "q", "choices": ["a", "b"], "answer": "z"}]
    )
    done = peftbench("run", "--model", "tiny-decoder", "--methods", "lora", "--task", task, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "row 31, column 'answer': 'z' is not among its 2 options" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("choice:path=none.jsonl", "data file 'none.jsonl' does not exist"),
        ("choice:path={home}", "is a folder; name a file"),
        ("choice:path={home}/quiz.csv", "it must end in .jsonl or .parquet"),
        ("choice:path={home}/quiz.jsonl:choices=options", "row 1 has no column 'options'; it has question, choices, answer; name the right"),
        ("choice:path={home}/few.jsonl", "too few rows to cut a validation split from"),
    ],
)  # fmt: skip
def test_a_file_that_cant_serve_is_named(task: str, said: str, tmp_path: Path) -> None:
    for name, count in (("quiz.csv", 9), ("quiz.jsonl", 40), ("few.jsonl", 2)):
        written(tmp_path / name, quiz(count))
    with pytest.raises(UsageError, match=said):
        built = build_task(task.format(home=tmp_path))
        built.fingerprint()
        notices_of(built)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_run_keeps_the_likelihood_of_each_option(
    family: str, tmp_path: Path, make_run: Any, checkpoint: Any
) -> None:
    task = written(tmp_path / "quiz.jsonl", quiz())
    record = execute(make_run(model=checkpoint(family), task=task, steps=2), tmp_path, Conditions())
    frame = pd.read_parquet(tmp_path / "predictions.parquet")
    test = rows_of(task)["test"]
    assert [len(its) for its in frame["log_likelihoods"]] == [len(row["choices"]) for row in test]
    assert list(frame["reference"]) == [row["answer"] for row in test]
    sums = [int(np.argmax(its)) for its in frame["log_likelihoods"]]
    shares = [
        int(np.argmax(a / b)) for a, b in zip(frame["log_likelihoods"], frame["characters"], strict=True)
    ]
    assert record.quality is not None and record.notices is not None and record.checks
    assert record.quality["acc"] == np.mean(np.array(sums) == frame["reference"])
    assert record.quality["acc_norm"] == np.mean(np.array(shares) == frame["reference"])
    assert any(
        said.startswith("2 to 3 options an item: a guess among them is right in") for said in record.notices
    )
    assert {check["outcome"] for check in record.checks} == {"pass"}


def test_check_passes(tmp_path: Path) -> None:
    checked = check_task(written(tmp_path / "quiz.jsonl", quiz()))
    assert {one.outcome for one in checked} <= {"pass", "notice"}, checked
    assert next(one.detail for one in checked if one.name == "labels").startswith(
        "2 to 3 options, a guess is right in"
    )
