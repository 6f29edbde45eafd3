"""GSM8K (Cobbe et al. 2021): a word problem of school mathematics to its solution, which ends in `#### 42`.

The prompt is `Question: ...`, and `Answer:` on a line of its own. The marks `<<48/2=24>>` of the published solutions, which are for a calculator, are left
out. Validation is cut off the training split (a tenth), equal questions on one side. From `--data-dir DIR` with
`gsm8k/train.jsonl` and `test.jsonl` (columns question and answer, packed or not), else from the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from peftbench import task
from peftbench.data.files import NeededColumn
from peftbench.data.published import Published

from ._maths import Maths, refuse_unanswered
from ._published import carve, datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

PUBLISHED = Published("gsm8k", "openai/gsm8k", "main")
READ = ("train", "test")
COLUMNS = {"source": NeededColumn("question", ""), "target": NeededColumn("answer", "")}


@task("gsm8k", version="1")
@dataclass(frozen=True)
class Gsm8k(Maths):
    """The solution of a word problem of school mathematics, scored by its number. No calculator."""

    max_length: ClassVar[int] = 512

    def fingerprint(self) -> str:
        return PUBLISHED.fingerprint(READ)

    def check(self) -> None:
        """Whether every row has a question and an answer.

        Raises:
            UsageError: one has not.
        """
        _read()

    def splits(self) -> dict[str, datasets.Dataset]:
        tables = _read()
        train, validation = carve(_asked(tables["train"]), "source", None)
        test = _asked(tables["test"])
        if self.inputs:
            test = some_sources(test, self.inputs)
        return datasets_of({"train": train, "validation": validation, "test": test})


def _read() -> dict[str, pa.Table]:
    """The rows of each split that is read, as published."""
    tables = PUBLISHED.read(READ, COLUMNS)
    for split, rows in tables.items():
        refuse_unanswered(PUBLISHED, split, rows["target"], COLUMNS["target"].name)
    return tables


def _asked(rows: pa.Table) -> pa.Table:
    """Questions as prompts, solutions without what is for a calculator."""
    sources = pc.binary_join_element_wise(
        "Question: ", pc.utf8_trim_whitespace(rows["source"]), "\nAnswer:", ""
    )
    targets = pc.replace_substring_regex(rows["target"], "<<[^<>]*>>", "")
    return pa.table({"source": sources, "target": targets})
