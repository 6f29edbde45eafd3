"""Train on MetaMathQA (Yu et al. 2024), test on GSM8K (Cobbe et al. 2021), as the PEFT library compares its methods.

From that comparison (`method_comparison/MetaMathQA` of github.com/huggingface/peft, read at version 0.21): the prompt, the filter
(question and response, with a space between them, have at most 1,300 characters), the test split and, as `peft_accuracy`, its way
to read and compare answers. Other here: a token ends the prompt, the loss is on the response alone, and validation is cut off
MetaMathQA (at most 2,000 rows), where theirs is 50 questions of GSM8K's training split. What MetaMathQA made of one question is on one side.
From `--data-dir DIR` with `metamathqa/train.jsonl` (or `train.json`, one list, as published) and `gsm8k/test.jsonl`, packed or not, else from the hub.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from peftbench import TextMetric, UsageError, task
from peftbench.data.files import NeededColumn, checked, opened
from peftbench.data.published import Published
from peftbench.data.splits import hashes, joined
from peftbench.objectives.text_metrics import mean, scores

from ._maths import EXACT_NUMBER, UNPARSED, Maths, refuse_unanswered
from ._published import carve, datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

TRAINED = Published("metamathqa", "meta-math/MetaMathQA")
TESTED = Published("gsm8k", "openai/gsm8k", "main")
TRAIN_COLUMNS = {
    name: NeededColumn(column, "")
    for name, column in (("query", "query"), ("target", "response"), ("group", "original_question"))
}
TEST_COLUMNS = {"query": NeededColumn("question", ""), "target": NeededColumn("answer", "")}
MOST_CHARACTERS = 1300
# In the order in which they are looked for.
MARKS = (
    "The answer is: ",
    "The answer is ",
    "The final answer is: ",
    "The final answer is ",
    "#### ",
)


def _as_peft_reads(text: str) -> float | str | None:
    """The answer behind the last of the first mark that a text has, as a number if it is one, else as it is written."""
    text = text.strip().rstrip(".!?")
    mark = next((mark for mark in MARKS if mark in text), None)
    if mark is None:
        return None
    said = text.rpartition(mark)[2].strip().partition("\n")[0].strip(" .!?$%")
    above, fraction, below = said.partition("/")
    try:
        return float(Decimal(above.strip()) / Decimal(below.strip()) if fraction else Decimal(said))
    except (ArithmeticError, ValueError):  # no number, or one beyond all bounds
        return said


def _as_peft_compares(text: str, references: list[str]) -> bool:
    said = _as_peft_reads(text)
    return said is not None and said in [_as_peft_reads(one) for one in references]


PEFT_ACCURACY = TextMetric(
    "peft_accuracy", unit="%", has_column=True, statistics=partial(scores, _as_peft_compares), value=mean
)


@task("metamath-gsm8k", version="1")
@dataclass(frozen=True)
class MetaMathGsm8k(Maths):
    """Trained on MetaMathQA, tested on GSM8K by the number that it answers with, as in the PEFT library's method comparison."""

    max_new_tokens: int = 512

    max_length: ClassVar[int] = 768
    metrics: ClassVar = (EXACT_NUMBER, UNPARSED, PEFT_ACCURACY)

    def fingerprint(self) -> str:
        both = TRAINED.fingerprint(["train"]), TESTED.fingerprint(["test"])
        return hashlib.sha256("\0".join(both).encode()).hexdigest()

    def check(self) -> None:
        """Whether every row has a question and an answer.

        Raises:
            UsageError: one has not.
        """
        _read()

    def splits(self) -> dict[str, datasets.Dataset]:
        trained, test = _read()
        train, validation = carve(_kept(trained), "group", None)
        test = _asked(test.append_column("group", test["query"]))
        if self.inputs:
            test = some_sources(test, self.inputs)
        return datasets_of({"train": _asked(train), "validation": _asked(validation), "test": test})


def _read() -> tuple[pa.Table, pa.Table]:
    """The rows to train on and to test, as published."""
    test = TESTED.read(["test"], TEST_COLUMNS)["test"]
    refuse_unanswered(TESTED, "test", test["target"], TEST_COLUMNS["target"].name)
    listed = _of_document()
    return TRAINED.read(["train"], TRAIN_COLUMNS)["train"] if listed is None else listed, test


def _of_document() -> pa.Table | None:
    """The rows to train on of one JSON list, as MetaMathQA is published; None: they are kept otherwise.

    Raises:
        UsageError: it is a list of something else.
    """
    file = TRAINED.files(["train"]).get("train")
    if file is None:
        return None
    with opened(file) as source:
        if not bytes(source.read(64)).lstrip().startswith(b"["):
            return None
    where, names = f"data file {str(file)!r}", [column.name for column in TRAIN_COLUMNS.values()]
    try:
        rows = [{name: row.get(name) for name in names} for row in TRAINED.documents(["train"])["train"]]
        return pa.Table.from_batches(checked(pa.Table.from_pylist(rows).to_batches(), where, TRAIN_COLUMNS))
    except (AttributeError, ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"{where} is no list of objects with texts in {', '.join(names)} ({error})"
        ) from error


def _kept(rows: pa.Table) -> pa.Table:
    """Those that are short enough; a group is all that shares an original question or a question, by its hash.

    Raises:
        UsageError: all are too long.
    """
    characters = pc.add(pc.utf8_length(rows["query"]), pc.utf8_length(rows["target"]))
    rows = rows.filter(pc.less_equal(characters, MOST_CHARACTERS - 1))
    if not rows.num_rows:
        raise UsageError(f"{TRAINED.folder}: no row has {MOST_CHARACTERS:,} characters or fewer")
    texts = (
        chain.from_iterable(part.to_pylist() for part in rows[name].chunks) for name in ("group", "query")
    )
    of_each = (hashes(its, 0) for its in texts)
    groups = pa.array([f"{group:016x}" for group in joined(*of_each)])
    return rows.set_column(rows.schema.get_field_index("group"), "group", groups)


def _asked(rows: pa.Table) -> pa.Table:
    """Questions as the comparison's prompts."""
    sources = pc.binary_join_element_wise("Question: ", rows["query"], " Think step by step.\nAnswer:", "")
    return pa.table({"source": sources, "target": rows["target"], "group": rows["group"]})
