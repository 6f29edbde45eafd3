"""GSM8K on small files of its layout: prompts, solutions, the cut, scores, and rows without an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftbench import UsageError
from peftbench.data import published
from peftbench.execution.execute import execute
from peftbench.planning.plan import named_task
from peftbench.plugins.build import build_task, notices_of
from peftbench.records.runs import Conditions

REAL = os.environ.get(published.VARIABLE)  # a folder of the published data, where there is one


def row(i: int) -> dict[str, str]:
    return {
        "question": f"Ann has {i} apples and buys 1,000. How many? ",
        "answer": f"{i} + 1000 = <<{i}+1000={i + 1000}>>{i + 1000} apples.\n#### 1,{i:03}",
    }


def written(folder: Path, split: str, rows: list[dict[str, str]]) -> Path:
    file = folder / "gsm8k" / f"{split}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `--data-dir`."""
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    # Ten questions are there twice, with another solution.
    again = [{**row(i), "answer": f"Again: {row(i)['answer']}"} for i in range(10)]
    written(tmp_path, "train", [*(row(i) for i in range(50)), *again])
    written(tmp_path, "test", [row(i) for i in range(100, 110)])
    return tmp_path


def scored(task: str, texts: list[str], references: list[list[str]]) -> dict[str, float]:
    predicted, wanted = np.empty(len(texts), object), np.empty(len(texts), object)
    predicted[:], wanted[:] = texts, references
    return build_task(task).objective.score(predicted, wanted)


def test_questions_are_prompts_and_solutions_lose_what_is_for_a_calculator(data: Path) -> None:
    splits = build_task("gsm8k").splits()
    assert splits["test"][5] == {
        "source": "Question: Ann has 105 apples and buys 1,000. How many?\nAnswer:",
        "target": "105 + 1000 = 1105 apples.\n#### 1,105",
    }
    few = build_task("gsm8k:inputs=3").splits()
    assert len(few["test"]) == 3 and few["train"][:] == splits["train"][:]


def test_validation_is_cut_off_training_with_equal_questions_on_one_side(data: Path) -> None:
    splits = build_task("gsm8k").splits()
    train, validation = splits["train"]["source"], splits["validation"]["source"]
    assert len(train) + len(validation) == 60 and 4 <= len(validation) <= 8
    assert not set(train) & set(validation)


def test_an_answer_is_its_number_and_a_text_without_one_is_wrong_and_counted() -> None:
    reference = ["1105 apples.\n#### 1,105"]
    texts = ["#### 1105.00", "So it is $1,105", "#### 1,106", "I do not know"]
    found = scored("gsm8k", texts, [reference] * 4)
    assert found == {"exact_number": 0.5, "unparsed": 0.25}
    assert scored("gsm8k", ["#### 2"], [["#### 1", "#### 2"]])["exact_number"] == 1
    # A reference without a number is met by nothing, not even by a text without one.
    assert scored("gsm8k", ["no idea"], [["no idea"]]) == {"exact_number": 0, "unparsed": 1}


def test_the_best_is_the_highest_score_with_the_fewest_texts_without_an_answer() -> None:
    exact, unparsed = build_task("gsm8k").objective.reported
    assert exact.higher_is_better and not unparsed.higher_is_better and exact.is_share and unparsed.is_share
    assert unparsed.has_column and "unparsed" in notices_of(build_task("gsm8k"))[0]


def test_a_row_without_an_answer_is_named(data: Path) -> None:
    rows = [row(i) for i in range(9)]
    rows[3]["answer"], rows[5]["answer"] = "It is 5.", "5\n#### five"
    file = written(data, "train", rows)
    with pytest.raises(UsageError) as raised:
        build_task("gsm8k").splits()
    assert str(raised.value) == (
        f"data file {str(file)!r}: row 4, column 'answer': it ends in no answer, as in '#### 42' ('It is 5.'); fix or remove such rows "
        "(here 2 of 9 rows)"
    )
    with pytest.raises(UsageError, match="row 4, column 'answer'"):  # before a model is loaded
        named_task("gsm8k")
    rows[3]["answer"] = " "
    written(data, "train", rows)
    with pytest.raises(UsageError, match="row 4, column 'answer': it is empty"):
        build_task("gsm8k").splits()


def test_data_that_is_not_there_is_said_with_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "gsm8k" / "test.jsonl").unlink()
    with pytest.raises(UsageError, match="has no test split .* it has train.jsonl"):
        build_task("gsm8k").splits()
    monkeypatch.delenv(published.VARIABLE)
    with pytest.raises(
        UsageError, match=r"data of openai/gsm8k \(main\) is not here: give --data-dir DIR with gsm8k/train"
    ):
        build_task("gsm8k").splits()
    for wrong in ("inputs=-1", "beams=0"):
        with pytest.raises(UsageError):
            build_task(f"gsm8k:{wrong}")


def test_a_decoder_writes_and_is_scored(data: Path, make_run: Any) -> None:
    out = data / "out"
    out.mkdir()
    task = "gsm8k:inputs=4:max_new_tokens=8"
    record = execute(make_run("lora", model="tiny-decoder", task=task, steps=2), out, Conditions())
    assert record.quality is not None and set(record.quality) == {"exact_number", "unparsed", "nll"}
    assert record.metric is not None and record.metric["name"] == "exact_number"


@pytest.mark.skipif(REAL is None, reason="set PEFTBENCH_DATA_DIR to a folder of the published data")
def test_the_published_references_are_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REAL is not None
    if not (Path(REAL) / "gsm8k").is_dir():
        pytest.skip("the folder has no gsm8k")
    monkeypatch.setenv(published.VARIABLE, REAL)
    splits = build_task("gsm8k").splits()
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 6726,
        "validation": 747,
        "test": 1319,
    }
    for rows in splits.values():
        targets = list(rows["target"])
        found = scored("gsm8k", targets, [[one] for one in targets])
        assert found == {"exact_number": 1, "unparsed": 0} and not any("<<" in one for one in targets)
