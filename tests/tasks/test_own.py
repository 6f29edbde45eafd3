"""The user's own data: every way it can be given, what is wrong with it said in one line, and splits that hold up."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from peftbench import Classification, Regression, UsageError
from peftbench.data.splits import SHARES, _most_frequent, hashes, joined, split_rows
from peftbench.plugins.build import build_task

ROWS = [
    {"text": f"word {i}", "label": "yes" if i % 4 else "no", "stars": i / 8, "shop": f"s{i % 40}"}
    for i in range(400)
]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / name
    if ".parquet" in name:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        return file
    if ".jsonl" in name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        mark = "\t" if ".tsv" in name.lower() else ","
        lines = [mark.join(rows[0]), *(mark.join(str(v) for v in row.values()) for row in rows)]
        text = "\n".join(lines) + "\n"
    file.write_bytes(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode())
    return file


def task(text: str) -> Any:
    return build_task(text)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("csv", "a.csv"), ("csv", "a.tsv"), ("csv", "a.csv.gz"), ("csv", "a.TSV"), ("csv", "a.csv.GZ"), ("jsonl", "a.jsonl"), ("jsonl", "a.jsonl.gz"),
     ("parquet", "a.parquet")],
)  # fmt: skip
def test_every_kind_of_file_gives_the_same_rows(kind: str, name: str, tmp_path: Path) -> None:
    write(tmp_path, name, ROWS)
    found = task(f"{kind}:path={tmp_path / name}")
    assert found.objective == Classification(("no", "yes"))
    splits = found.splits()
    texts = {split: list(rows["text"]) for split, rows in splits.items()}
    assert sorted(chain(*texts.values())) == sorted(row["text"] for row in ROWS)
    by_text = {row["text"]: row["label"] for row in ROWS}
    for rows in splits.values():
        assert [("no", "yes")[i] for i in rows["label"]] == [by_text[t] for t in rows["text"]]
    again = task(f"csv:path={write(tmp_path, 'b.csv', ROWS)}").splits()
    assert list(again["test"]["text"]) == texts["test"]


def test_splits_are_stratified_seeded_and_keep_groups_together(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", ROWS)
    splits = task(f"csv:path={file}").splits()
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 280,
        "validation": 40,
        "test": 80,
    }
    for rows in splits.values():  # a quarter of the labels is "no"
        assert sum(label == 0 for label in rows["label"]) * 4 == len(rows)
    other = task(f"csv:path={file}:split_seed=1").splits()
    assert set(other["test"]["text"]) != set(splits["test"]["text"])
    grouped = task(f"csv:path={file}:group=shop").splits()
    shops = [set(rows["group"]) for rows in grouped.values()]
    assert sum(map(len, shops)) == 40 and not shops[0] & shops[1] | shops[0] & shops[2] | shops[1] & shops[2]
    assert abs(len(grouped["train"]) - 280) <= 20


def test_rows_keep_their_side_when_others_come_and_go() -> None:
    """The order of a file says nothing, and one row less moves few others."""
    names = [f"row {i}" for i in range(1000)]
    strata = np.arange(1000) % 3
    first = split_rows(hashes(names, 0), strata, SHARES)["test"]
    backwards = split_rows(hashes(names[::-1], 0), strata[::-1], SHARES)["test"][::-1]
    assert (first == backwards).all()
    fewer = split_rows(hashes(names[1:], 0), strata[1:], SHARES)["test"]
    assert (first[1:] != fewer).sum() <= 2
    assert abs(first.mean() - 0.2) < 0.003
    rare = split_rows(hashes(names, 0), (np.arange(1000) == 7).astype(np.int64), SHARES)
    assert rare["train"][7] or rare["validation"][7]  # a single row of a label is no test


def parts(file: Path, fields: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """Each split's rows, in its order, with labels by name."""
    found = task(f"csv:path={file}{fields}")
    names = found.objective.labels
    return {
        split: [(row["text"], names[row["label"]]) for row in rows] for split, rows in found.splits().items()
    }


@pytest.mark.parametrize("each", [6, 200])
def test_the_order_of_rows_and_the_names_of_labels_and_files_change_no_split(
    each: int, tmp_path: Path
) -> None:
    """Also below 20 rows a label, where the places of each label are turned; what is trained on is in one order, too."""
    rows = [{"text": f"text {i}", "label": "abcde"[i % 5]} for i in range(5 * each)]
    other = [{**row, "label": dict(zip("abcde", "QayXd", strict=True))[row["label"]]} for row in rows]
    names = {row["label"]: was["label"] for row, was in zip(other, rows, strict=True)}
    (tmp_path / "else where").mkdir()
    first = parts(write(tmp_path, "a.csv", rows))
    assert parts(write(tmp_path / "else where", "b.csv", rows[::-1])) == first
    renamed = parts(write(tmp_path, "c.csv", other[1::2] + other[::2]))
    assert {s: sorted((t, names[name]) for t, name in its) for s, its in renamed.items()} == {
        split: sorted(its) for split, its in first.items()
    }
    assert [text for text, _ in renamed["train"]] == [text for text, _ in first["train"]]


def test_a_group_tied_between_two_labels_goes_to_either() -> None:
    names = [f"g{i // 2}" for i in range(2000)]
    strata = np.arange(2000) % 2
    once = _most_frequent(*np.unique(hashes(names, 0), return_inverse=True), strata)
    assert 0.4 < once.mean() < 0.6


def test_equal_texts_and_groups_are_joined_through_any_number_of_steps(tmp_path: Path) -> None:
    groups = np.array(["a", "b", "b", "c", "d", "e", "e"])
    texts = np.array(["1", "1", "2", "2", "3", "4", "5"])
    assert joined(groups, texts).tolist() == ["a"] * 4 + ["d", "e", "e"]
    rows = [{"text": f"t{i // 3}", "label": "ab"[i % 2], "user": f"u{i % 3}-{i // 30}"} for i in range(600)]
    splits = task(f"csv:path={write(tmp_path, 'a.csv', rows)}:group=user").splits()
    sides = [{row["text"] for row in rows} for rows in splits.values()]
    assert all(sides) and not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    said = task(f"csv:path={tmp_path / 'a.csv'}:group=user").notices()
    assert "the 60 groups share texts, so that 20 are left to cut between" in said
    one = [{**row, "user": f"u{i % 3}"} for i, row in enumerate(rows)]
    with pytest.raises(UsageError, match="1 after groups of 'user' that share a text are joined"):
        task(f"csv:path={write(tmp_path, 'b.csv', one)}:group=user").splits()
    spaced = [{**row, "text": row["text"] + " " * (i % 3)} for i, row in enumerate(rows)]
    found = task(f"csv:path={write(tmp_path, 'c.csv', spaced)}").splits()
    assert not {t.strip() for t in found["train"]["text"]} & {t.strip() for t in found["test"]["text"]}


@pytest.mark.parametrize(
    ("name", "split"),
    [("Test.csv", "test"), ("test.jsonl", "test"), ("testing.csv", "test"), ("test-00000-of-00001.parquet", "test"),
     ("my_test.tsv", "test"), ("eval.csv", "validation"), ("Dev.csv", "validation"), ("val_set.csv", "validation")],
)  # fmt: skip
def test_what_looks_like_a_split_is_not_passed_over(name: str, split: str, tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ROWS)
    (tmp_path / name).write_text("x")
    with pytest.raises(
        UsageError, match=f"has no {split} split, and '{name}', which is not read: write {split}.csv, or :"
    ):
        task(f"csv:path={tmp_path}").splits()
    (tmp_path / name).unlink()
    (tmp_path / "testimonials.csv").write_text("x")
    assert len(task(f"csv:path={tmp_path}").splits()) == 3


def test_two_files_of_a_split_are_refused(tmp_path: Path) -> None:
    for name in ("train.csv", "valid.csv", "dev.csv"):
        write(tmp_path, name, ROWS)
    with pytest.raises(
        UsageError, match="several files of its validation split, valid.csv, dev.csv; leave one"
    ):
        task(f"csv:path={tmp_path}").splits()
    assert task(f"csv:path={tmp_path}:validation={tmp_path / 'dev.csv'}").splits()


def test_blanks_around_a_label_are_none_of_it(tmp_path: Path) -> None:
    rows = [{**row, "label": f" {row['label']}" if i % 3 else row["label"]} for i, row in enumerate(ROWS)]
    assert task(f"csv:path={write(tmp_path, 'a.csv', rows)}").objective == Classification(("no", "yes"))


def test_numbers_are_regression(tmp_path: Path) -> None:
    found = task(f"jsonl:path={write(tmp_path, 'a.jsonl', ROWS)}:value=stars")
    splits = found.splits()
    train = np.array(splits["train"]["label"])
    assert isinstance(found.objective, Regression)
    assert found.objective.centre == pytest.approx(train.mean())
    assert found.objective.spread == pytest.approx(train.std())
    assert abs(np.mean(splits["test"]["label"]) - train.mean()) < 0.1 * train.std()  # tenths are strata


def test_given_splits_are_taken_and_missing_ones_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ROWS[:200])
    write(tmp_path, "dev.csv", ROWS[200:300])
    write(tmp_path, "other.csv", ROWS[300:])
    found = task(f"csv:path={tmp_path}:test={tmp_path / 'other.csv'}").splits()
    assert {s: len(rows) for s, rows in found.items()} == {"train": 200, "validation": 100, "test": 100}
    cut_off = task(f"csv:path={tmp_path}").splits()
    assert len(cut_off["validation"]) == 100 and len(cut_off["train"]) + len(cut_off["test"]) == 200
    assert 40 <= len(cut_off["test"]) <= 48  # 20 of 70 + 20


def test_repeated_texts_are_said_with_counts(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [*ROWS[:100], ROWS[0], ROWS[1]])
    write(tmp_path, "test.csv", ROWS[95:150])
    said = task(f"csv:path={tmp_path}").notices()
    assert said == [
        "validation cut off the training rows (split_seed 0), test as given",
        "2 of 102 rows of the train file repeat a text of it",
        "5 of 55 test rows have a text that is also in the training file",
    ]
    write(tmp_path, "train.csv", ROWS[:30])
    write(tmp_path, "test.csv", ROWS[40:80])
    said = task(f"csv:path={tmp_path}:group=shop").notices()
    assert said[-1] == "30 of 40 groups of the test file are also in the training file"
    write(tmp_path, "train.csv", [*ROWS[:100], ROWS[0], ROWS[1]])
    write(tmp_path, "test.csv", ROWS[95:150])
    # What rates are chosen on is not what is reported.
    both = task(
        f"csv:path={tmp_path / 'train.csv'}:validation={tmp_path / 'test.csv'}:test={tmp_path / 'test.csv'}"
    )
    assert both.notices()[-1] == "55 of 55 test rows have a text that is also in the validation file"
    one = task(f"csv:path={tmp_path / 'train.csv'}").splits()
    assert max(Counter(chain(*(rows["text"] for rows in one.values()))).values()) == 2
    for text in (ROWS[0]["text"], ROWS[1]["text"]):  # equal texts are on one side
        assert sum(text in rows["text"] for rows in one.values()) == 1


@pytest.mark.parametrize(
    ("name", "content", "fields", "said"),
    [
        ("a.csv", "text,label\na,x\n,y\n", "", "row 2, column 'text': it is empty; fix or remove such rows (here 1 of 2"),
        ("a.csv", "text,label\na,x\nb\xff,y\n", "", "row 2: CSV conversion error to string: invalid UTF8"),
        ("a.csv", "text,label\na,x\nb,y,z\n", "", "row 2: Expected 2 columns, got 3"),
        ("a.csv", "", "", "Empty CSV file"),
        ("a.csv", "text,label\n", "", "has no rows in the file of its train split"),
        ("a.csv", "review;label\na;x\n", "", "its columns are parted by ';'; save it with commas, or with tabs as .tsv (review;label)"),
        ("a.csv", "sep=;\nreview;label\na;x\n", "", "its first line is 'sep=;', which is no header"),
        ("a.csv", "text,label\na,x\nb,y\n", ":value=label", "row 1, column 'label': 'x' is no number"),
        ("a.csv", "text,label\na,1\nb,nan\n", ":value=label", "row 2, column 'label': 'nan' is no number"),
        ("a.csv", "text,label\na,1\nb,1\nc,1\nd,1\n", ":value=label", "has one value only, 1"),
        ("a.csv", "text,label\na,x\nb,x\n", "", "has one label only, 'x'"),
        ("a.csv", "text,label\na,x\nb,y\n", "", "too few rows to cut a validation split from (2 rows, 2 different texts)"),
        ("a.csv", "text,label\n" + "".join(f"t{i},{i}.5\n" for i in range(50)), "", "which are no classes; if they are"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "", "line 2 is not JSON"),
        ("a.jsonl", '["a"]\n', "", "line 1 is not a JSON object"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "", "row 2, column 'label': it is empty"),
        ("a.jsonl", '{"text": "a", "label": 1}\n' * 10_000 + '{"text": "b"}\n', "", "row 10001, column 'label': it is empty"),
        ("a.jsonl", '{"text": "b"}\n' * 10_001 + '{"text": "a", "label": 1}\n', "", "row 1, column 'label': it is empty"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "label": {"x": 1}}\n', "", "row 2, column 'label': an object is no text"),
        ("a.jsonl", '{"text": "a", "text": "b", "label": 1}\n', "", "line 1: column 'text' stands twice in it"),
        ("a.jsonl", '[\n{"text": "a"}\n', "", "; JSON Lines has one whole object on each line"),
        ("a.jsonl", '{"review": "a", "stars": [1]}\n', "", "has no column 'text'; it has review, stars"),
        ("a.csv", "text,label,label\na,x,y\n", "", "column 'label' stands twice in it"),
        ("a.csv", "text,label\na,1\nb,1e999\n", ":value=label", "row 2, column 'label': 'inf' is no number"),
        ("a.csv", "text,label\nb\xe9,x\n", "", "save the file as UTF-8"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 1}\n', "", "save the file as UTF-8"),
        ("a.jsonl", '{"text": "a", "label": [1]}\n', ":value=label", "is no text"),
        ("a.parquet", "no parquet", "", "can't be read: Parquet"),
        ("a.csv", "\xff\xfet\0e\0", "", "it is no UTF-8, but UTF-16 or no text; save the file as UTF-8"),
        ("a.jsonl", "{\0}\0", "", "it is no UTF-8, but UTF-16 or no text; save the file as UTF-8"),
        ("a.csv", 'text,label\nb,y\n"say \\"yes\\" now",x\n', "", "row 2: a quoted text goes on behind its closing quote"),
        ("a.tsv", 'text\tlabel\na\tx\n"b\ty\nc\tx\nd"\ty\n', "", "row 2: a quote before its text is closed behind another row"),
        ("a.csv", "te\x1b[31mxt,label\na,x\n", "", "it has te\\x1b[31mxt, label"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": NaN, "label": "y"}\n', "", "row 2, column 'text': it is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(
    name: str, content: str, fields: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError) as raised:
        assert task(f"{name[2:].replace('tsv', 'csv')}:path={file}{fields}").objective
    assert said in str(raised.value) and "\n" not in str(raised.value) and str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "said"), [
        ("prompt=a:completion=b:value=c", "value has no effect beside prompt and completion"),
        ("prompt=a:completion=b:text=c", "text has no effect beside prompt and completion"),
        ("beams=4", "beams has no effect beside"),
        ("value=a:label=b", "name one of them"),
    ],
)  # fmt: skip
def test_fields_that_exclude_each_other_are_refused(fields: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        task(f"csv:path=a.csv:{fields}")


def test_labels_that_training_lacks_are_named_with_their_row(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ROWS[:50])
    write(tmp_path, "test.csv", [*ROWS[50:60], {**ROWS[60], "label": "maybe"}])
    with pytest.raises(
        UsageError, match=r"labels in the test split that training lacks: \['maybe'\], first in row 11"
    ):
        assert task(f"csv:path={tmp_path}").objective


def test_what_is_prepared_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "a.csv", ROWS)
    want = task(f"csv:path={file}").objective
    moved = tmp_path / "moved.csv"
    file.rename(moved)
    monkeypatch.setattr("peftbench.data.files._READERS", {})  # nothing is read again, wherever the file lies
    assert task(f"csv:path={moved}").objective == want
    with pytest.raises(KeyError):
        assert task(f"csv:path={moved}:split_seed=3").objective


@pytest.mark.parametrize(("labels", "each"), [(77, 4), (100, 8), (10, 8), (50, 2), (2, 100)])
def test_few_rows_a_label_still_fill_every_split(labels: int, each: int) -> None:
    """Alike strata must not put their few rows at the same places of the cut."""
    strata = np.repeat(np.arange(labels), each)
    found = split_rows(hashes([f"row {i}" for i in range(labels * each)], 0), strata, SHARES)
    for split, share in SHARES.items():
        assert found[split].mean() == pytest.approx(share, abs=0.05), split


def test_a_large_group_trains() -> None:
    """Wherever else it went, the shares would be far off."""
    names = [f"g{i // 10}" if i >= 300 else "large" for i in range(1000)]
    for seed in range(5):
        found = split_rows(hashes(names, seed), np.zeros(1000, np.int64), SHARES)
        assert found["train"][0] and found["train"].mean() == pytest.approx(0.7, abs=0.02)


def test_a_cut_that_leaves_one_label_or_lacks_one_is_said(tmp_path: Path) -> None:
    """Groups stay whole, so the only row of a label may go to another side."""
    rows = [{"text": f"t{i}", "label": "abc"[(i % 2) + (i == 777)], "g": f"g{i // 10}"} for i in range(1000)]
    one = [{**row, "label": "b" if i == 777 else "a"} for i, row in enumerate(rows)]
    lacking, refused = 0, 0
    for seed in range(8):
        three = task(f"jsonl:path={write(tmp_path, 'three.jsonl', rows)}:group=g:split_seed={seed}")
        two = task(f"jsonl:path={write(tmp_path, 'two.jsonl', one)}:group=g:split_seed={seed}")
        gone = "the cut left no training row of the labels c" in three.notices()
        assert gone == (2 not in three.splits()["train"]["label"])
        lacking += gone
        try:
            assert set(two.splits()["train"]["label"]) == {0, 1}
        except UsageError as error:
            refused += "one label only in the training rows that the cut left" in str(error)
    assert lacking and refused


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("Yes", "yes"), ("caf\u00e9", "cafe\u0301"), ("a  b", "a b")]
)
def test_labels_that_may_be_one_in_two_spellings_are_said(one: str, other: str, tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": (one, other, "2")[i % 3]} for i in range(90)]
    (said,) = (
        notice
        for notice in task(f"jsonl:path={write(tmp_path, 'rows.jsonl', rows)}").notices()
        if "count as" in notice
    )
    assert "count as 2; if they mean one thing" in said and repr(one) in said and "'2'" not in said


def test_columns_that_nobody_wants_may_hold_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a number that is none, far behind what a reader looks at first."""
    monkeypatch.setattr("peftbench.data.files.BLOCK_BYTES", 2000)
    rows = [{**row, "price": i} for i, row in enumerate(ROWS)]
    file = write(tmp_path, "a.csv", [*rows, {**ROWS[0], "price": "n/a"}])
    assert sum(map(len, task(f"csv:path={file}").splits().values())) == 401


def test_a_value_is_written_alike_whatever_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peftbench.data.files.BATCH_ROWS", 10)
    labels = [*([True, False] * 10), *(["true", "false"] * 10), *([1.0, 0.0] * 10), *(["1", 0] * 10)]
    file = write(tmp_path, "a.jsonl", [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)])
    assert task(f"jsonl:path={file}").objective.labels == ("0", "1", "false", "true")


@pytest.mark.parametrize("labels", [("007", "7"), ("NA", "null"), ("None", "yes")])
def test_a_folder_of_csv_gives_the_same_rows_by_either_name(labels: tuple[str, str], tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": labels[i % 2]} for i in range(60)]
    write(tmp_path, "train.csv", rows)
    one, other = (task(f"{name}:path={tmp_path}") for name in ("csv", "hub"))
    assert one.objective == other.objective
    for split, its in one.splits().items():
        assert its.to_list() == other.splits()[split].to_list()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([1, 2], "column 'text' is of type list<"),
        (b"\xff", "column 'text' can't be read: Invalid UTF8"),
        ("2021-01-0{}", "column 'text' is of type timestamp[s], and no text"),
    ],
)
def test_a_column_of_a_data_set_that_is_no_text_is_one_line(column: Any, said: str, tmp_path: Path) -> None:
    """Of JSON Lines the library makes times of what looks like it: another text than the one that stands there."""
    dates = isinstance(column, str)
    rows = [{"text": column.format(i) if dates else column, "label": str(i % 2)} for i in range(1, 9)]
    write(tmp_path, f"train.{'jsonl' if dates else 'parquet'}", rows)
    with pytest.raises(UsageError) as raised:
        assert task(f"hub:path={tmp_path}").objective
    assert said in str(raised.value) and "\n" not in str(raised.value)
