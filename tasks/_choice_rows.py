"""The user's own multiple-choice rows: read, with each answer as an index, and what is wrong said by file, row and column."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from peftbench import UsageError
from peftbench.data.files import endings, json_objects
from peftbench.data.splits import hashes, joined
from peftbench.objectives.choice import wrong_item
from peftbench.printable import printable

READ = (*endings("jsonl"), *endings("parquet"))
Row = dict[str, Any]


def rows_of(file: Path, columns: Mapping[str, str]) -> list[Row]:
    """The rows of a file under the task's names, each answer as an index.

    Args:
        columns: `question`, `choices`, `answer` and perhaps `group` -> the column of the file.

    Raises:
        UsageError: the file does not read, lacks a column, or a row is wrong; the message says which and where.
    """
    where, found = f"data file {str(file)!r}", []
    try:
        for number, raw in enumerate(_raw(file), 1):
            found.append(_row(raw, columns, where, number))
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        raise UsageError(f"{where} can't be read: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise UsageError(f"{where} has no rows")
    return found


def _raw(file: Path) -> Iterator[Row]:
    if file.is_dir():
        raise UsageError(f"{str(file)!r} is a folder; name a file, and others with :validation= and :test=")
    if not file.is_file():
        raise UsageError(f"data file {str(file)!r} does not exist")
    if file.name.endswith(endings("parquet")):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
    elif file.name.endswith(endings("jsonl")):
        yield from json_objects(file)
    else:
        raise UsageError(f"data file {str(file)!r} is of no known kind; it must end in .jsonl or .parquet")


def _row(raw: Row, columns: Mapping[str, str], where: str, number: int) -> Row:
    for name, column in columns.items():
        if column not in raw:
            raise UsageError(
                f"{where}: row {number} has no column {column!r}; it has {', '.join(map(printable, raw))}; name the right one with "
                f":{name}=COLUMN"
            )
    found = {name: raw[column] for name, column in columns.items()}
    # The answer's words are looked for among the options, so these are looked at first.
    if wrong := wrong_item(found["question"], found["choices"], 0):
        raise _wrong(where, number, columns[wrong[0]], wrong[1])
    place = index_of(found["answer"], found["choices"])
    if isinstance(place, str):
        raise _wrong(where, number, columns["answer"], place)
    if "group" in found and (found["group"] is None or not str(found["group"]).strip()):
        raise _wrong(where, number, columns["group"], "it is empty")
    group = {"group": str(found["group"]).strip()} if "group" in found else {}
    return {"question": found["question"], "choices": found["choices"], "answer": place, **group}


def _wrong(where: str, number: int, column: str, what: str) -> UsageError:
    return UsageError(f"{where}: row {number}, column {column!r}: {what}; fix or remove such rows")


def index_of(answer: object, choices: list[str]) -> int | str:
    """Which option an answer means, or what is wrong with it.

    A whole number is an index from 0, a text an option word for word or else a capital letter, A for the first.
    """
    last = f"0 to {len(choices) - 1}"
    if isinstance(answer, int) and not isinstance(answer, bool):
        found = 0 <= answer < len(choices)
        return answer if found else f"index {answer} is not one of its {len(choices)} options ({last})"
    if not isinstance(answer, str):
        return f"{answer!r} is no index ({last}), letter or option"
    words, letters = answer.strip(), string.ascii_uppercase[: len(choices)]
    as_text = [at for at, text in enumerate(choices) if text.strip() == words]
    as_letter = [letters.index(words)] if len(words) == 1 and words in letters else []
    if as_text and as_letter and as_text != as_letter:
        return f"{words!r} is one option and the letter of another; give an index ({last})"
    if not as_text and not as_letter:
        return f"{words[:60]!r} is not among its {len(choices)} options, and no letter of one ({letters[0]} to {letters[-1]})"
    return (as_text or as_letter)[0]


def units_of(rows: Iterable[Row], seed: int) -> Any:
    """What each row belongs to, (rows,), by a hash: all that equal questions or groups join."""
    rows = list(rows)
    # White space alone makes no other question.
    texts = hashes((" ".join(row["question"].split()) for row in rows), seed)
    if "group" not in rows[0]:
        return texts
    return joined(hashes((row["group"] for row in rows), seed), texts)


def in_order(rows: list[Row], chosen: Any) -> list[Row]:
    """The chosen rows, in an order that they alone make."""
    names = hashes((" \0 ".join([row["question"], *row["choices"]]) for row in rows), 0)
    where = np.flatnonzero(chosen)
    answers = np.array([row["answer"] for row in rows])
    return [rows[i] for i in where[np.lexsort((answers[where], names[where]))]]


def repeated(given: Mapping[str, list[Row]]) -> Iterator[str]:
    """Questions that stand more than once in a file, or in two."""
    questions = {split: [" ".join(row["question"].split()) for row in rows] for split, rows in given.items()}
    for split, own in questions.items():
        if again := len(own) - len(set(own)):
            yield f"{again:,} of {len(own):,} rows of the {split} file repeat a question of it"
    for split, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if split in questions and other in questions:
            seen = set(questions[other])
            if both := sum(text in seen for text in questions[split]):
                file = "training" if other == "train" else other
                yield f"{both:,} of {len(questions[split]):,} {split} rows have a question that is also in the {file} file"
