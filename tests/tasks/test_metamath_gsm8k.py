"""MetaMathQA for training, GSM8K for the test, on small files: prompt, filter, groups, and answers as the PEFT library reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.data import published
from peftbench.inspection.check_task import check_task
from peftbench.planning.plan import named_task
from peftbench.plugins.build import build_task

from .test_gsm8k import scored

ORIGINALS = 40


def row(i: int, way: int) -> dict[str, str]:
    return {
        "type": "GSM_Rephrased",
        "query": f"How many are {i} and 1, said in way {way}?",
        "original_question": f"What is {i} + 1?",
        "response": f"{i} + 1 = {i + 1}. #### {i + 1} The answer is: {i + 1}",
    }


def written(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `--data-dir`: of each original question three ways to ask it."""
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    written(tmp_path / "metamathqa" / "train.jsonl", [row(i, n) for i in range(ORIGINALS) for n in range(3)])
    tests = [
        {"question": f"What is {i} + 2?", "answer": f"It is <<{i}+2={i + 2}>>{i + 2}.\n#### {i + 2}"}
        for i in range(50, 60)
    ]
    written(tmp_path / "gsm8k" / "test.jsonl", tests)
    return tmp_path


def test_the_prompt_and_the_texts(data: Path) -> None:
    splits = build_task("metamath-gsm8k:inputs=2").splits()
    assert [one["source"] for one in splits["test"]] == [
        f"Question: What is {i} + 2? Think step by step.\nAnswer:" for i in (50, 59)
    ]
    assert splits["test"][0]["target"] == "It is <<50+2=52>>52.\n#### 52"
    trained = dict(zip(splits["train"]["source"], splits["train"]["target"], strict=True))
    i = next(i for i in range(ORIGINALS) if any(f" {i} and" in source for source in trained))
    source = f"Question: How many are {i} and 1, said in way 2? Think step by step.\nAnswer:"
    assert trained[source] == f"{i} + 1 = {i + 1}. #### {i + 1} The answer is: {i + 1}"


def test_the_published_list_is_read_as_its_lines_are(data: Path) -> None:
    wanted = build_task("metamath-gsm8k").splits()
    lines = data / "metamathqa" / "train.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    lines.unlink()
    file = data / "metamathqa" / "train.json"
    file.write_text(json.dumps(rows, indent=2))
    found = build_task("metamath-gsm8k").splits()
    assert {split: its[:] for split, its in found.items()} == {split: its[:] for split, its in wanted.items()}
    file.write_text(json.dumps([*rows, {**rows[0], "response": None}]))
    with pytest.raises(UsageError, match=rf"row {len(rows) + 1}, column 'response': it is empty"):
        build_task("metamath-gsm8k").check()  # type: ignore[attr-defined]
    for wrong in ([1], [{**rows[0], "query": [1]}], [], [rows[0], {**rows[0], "query": 1}]):
        file.write_text(json.dumps(wrong))
        with pytest.raises(UsageError, match=r"train\.json'"):
            build_task("metamath-gsm8k").splits()


def test_what_was_made_of_one_question_is_on_one_side(data: Path) -> None:
    """Also through a question that stems from two."""
    rows = [row(i, n) for i in range(ORIGINALS) for n in range(3)]
    for i in range(0, ORIGINALS, 2):
        rows[3 * i]["query"] = rows[3 * i + 3]["query"] = f"Shared {i}?"
    written(data / "metamathqa" / "train.jsonl", rows)
    splits = build_task("metamath-gsm8k").splits()
    validation, train = set(splits["validation"]["group"]), set(splits["train"]["group"])
    assert validation and not validation & train and len(validation | train) == ORIGINALS // 2
    assert len(splits["train"]) + len(splits["validation"]) == 3 * ORIGINALS
    assert len(splits["validation"]) % 6 == 0


def test_rows_of_more_than_1300_characters_are_left_out(data: Path) -> None:
    """Question, a space and response: characters, not bytes."""
    rows = [row(i, 0) for i in range(ORIGINALS)]
    for one, characters in zip(rows, (1300, 1301), strict=False):
        one["response"] = "é" * (characters - 1 - len(one["query"]))
    written(data / "metamathqa" / "train.jsonl", rows)
    splits = build_task("metamath-gsm8k").splits()
    sources = [*splits["train"]["source"], *splits["validation"]["source"]]
    assert len(sources) == ORIGINALS - 1 and not any(" 1 and" in source for source in sources)
    written(data / "metamathqa" / "train.jsonl", rows[1:2])
    with pytest.raises(UsageError, match="no row has 1,300 characters or fewer"):
        build_task("metamath-gsm8k").splits()


# A text, GSM8K's answer, and whether the PEFT library's comparison takes it for right; the last column: whether the number is.
READ = [
    ("6. The answer is: 6", "#### 6", True, True),
    ("The final answer is: 6.", "#### 6", True, True),
    ("The answer is 6\n\nQuestion: 7", "#### 6", True, True),
    ("#### 6.0", "#### 6", True, True),
    ("The answer is: $50%", "#### 50", True, True),
    ("The answer is: 12/2", "#### 6", True, True),
    ("The answer is: 6 apples", "#### 6", False, True),  # no unit
    ("The answer is: 1000", "#### 1,000", False, True),  # commas are those of a text, not of a number
    ("The answer is: 1,000", "#### 1,000", True, True),
    ("It is 6", "#### 6", False, True),  # no mark
    ("The answer is:\n6", "#### 6", False, True),
    ("The answer is: 6/0", "#### 6", False, False),
    ("The answer is: 1e999999999", "#### 6", False, False),
    ("The answer is: NaN", "#### 6", False, False),
    ("The answer is: sNaN", "#### 6", False, False),
    ("The answer is: 1e999999/1e-999999", "#### 6", False, False),
    ("", "#### 6", False, False),
]


@pytest.mark.parametrize(("text", "reference", "as_peft", "as_number"), READ)
def test_answers_as_the_peft_library_reads_them(
    text: str, reference: str, as_peft: bool, as_number: bool
) -> None:
    found = scored("metamath-gsm8k", [text], [[reference]])
    assert (found["peft_accuracy"], found["exact_number"]) == (as_peft, as_number)


def test_the_check_passes_and_the_fingerprint_is_of_both(data: Path) -> None:
    checked = check_task("metamath-gsm8k")
    assert not [one for one in checked if one.outcome == "fail"], checked
    assert "exact_number 1, unparsed 0, peft_accuracy 1" in {
        one.detail for one in checked if one.name == "perfect"
    }
    seen = {build_task("metamath-gsm8k").fingerprint()}
    for name in ("metamathqa/train", "gsm8k/test"):
        file = data / f"{name}.jsonl"
        file.write_text(file.read_text().replace("What", "Which", 1))
        seen.add(build_task("metamath-gsm8k").fingerprint())
    assert len(seen) == 3


def test_what_lacks_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(data / "gsm8k" / "test.jsonl", [{"question": "What?", "answer": "It is 5."}])
    with pytest.raises(UsageError, match=r"test.jsonl': row 1, column 'answer': it ends in no answer"):
        build_task("metamath-gsm8k").splits()
    written(data / "gsm8k" / "test.jsonl", [{"question": "What?", "answer": "#### 5"}])
    written(data / "metamathqa" / "train.jsonl", [row(0, 0), {**row(1, 0), "response": ""}])
    with pytest.raises(UsageError, match=r"train.jsonl': row 2, column 'response': it is empty"):
        named_task("metamath-gsm8k")
    monkeypatch.delenv(published.VARIABLE)
    monkeypatch.setenv(published.VARIABLE, str(data / "gsm8k"))
    with pytest.raises(UsageError, match=r"give --data-dir DIR with metamathqa/train.jsonl"):
        build_task("metamath-gsm8k").fingerprint()
