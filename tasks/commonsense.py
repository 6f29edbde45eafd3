"""The eight commonsense sets in the layout of LLM-Adapters (Hu et al. 2023): `commonsense:set=piqa`.

From `--data-dir DIR` with `piqa/train.json` and `piqa/test.json`, each one JSON list of {instruction, input, output, answer}, packed or not.
An instruction names its options and ends with the words to choose from, `Answer format: solution1/solution2`; the output is `the correct
answer is solution1`. That code writes a text and looks for the word in it. Here the words are scored by their likelihood behind `the correct
answer is`. So no answer is missed, and numbers are not those of that paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from peftbench import Choice, UsageError, task
from peftbench.data.published import Published
from peftbench.objectives.choice import wrong_item

from ._published import carve, datasets_of

SETS = (
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "ARC-Challenge",
    "ARC-Easy",
    "openbookqa",
)
READ = ("train", "test")
FORMAT = "Answer format:"
LEAD = "the correct answer is"


@task("commonsense", version="1")
@dataclass(frozen=True)
class Commonsense:
    """One of eight commonsense sets in the layout of LLM-Adapters, by the likelihood of each answer word."""

    set: str = "piqa"

    max_length: ClassVar[int] = 256  # as in LLM-Adapters

    def __post_init__(self) -> None:
        if self.set not in SETS:
            raise ValueError(f"set must be one of {', '.join(SETS)}, not {self.set!r}")

    @property
    def objective(self) -> Choice:
        return Choice()

    def fingerprint(self) -> str:
        return self._published.fingerprint(READ)

    def notices(self) -> list[str]:
        how = (
            "answer words are scored by their likelihood, where LLM-Adapters looks for them in a written text"
        )
        return [f"{how}; validation is cut off the training split"]

    def splits(self) -> dict[str, Any]:
        documents = self._published.documents(READ)
        files = self._published.files(READ)
        tables = {
            split: pa.Table.from_pylist(list(_items(document, f"data file {str(files[split])!r}")))
            for split, document in documents.items()
        }
        train, validation = carve(tables["train"], "question", tables["train"]["answer"].to_numpy())
        return datasets_of({"train": train, "validation": validation, "test": tables["test"]})

    @property
    def _published(self) -> Published:
        return Published(self.set, layout=".json")


def _items(document: Any, where: str) -> Iterator[dict[str, Any]]:
    """The items of a file.

    Raises:
        UsageError: it is no list of such objects, or one of them names no options or another answer.
    """
    if not isinstance(document, list) or not document:
        raise UsageError(
            f"{where} is no JSON list with items; it must be [{{instruction, input, output, answer}}, ...]"
        )
    for number, raw in enumerate(document, 1):
        if not isinstance(raw, dict) or not all(
            isinstance(raw.get(name), str) for name in ("instruction", "answer")
        ):
            raise UsageError(f"{where}: row {number} has no text in 'instruction' or 'answer'")
        question, _, words = raw["instruction"].rpartition(FORMAT)
        if not question:
            raise UsageError(
                f"{where}: row {number}, column 'instruction': it has no {FORMAT!r}, which names the options"
            )
        choices = [word.strip() for word in words.strip().split("/")]
        if raw["answer"].strip() not in choices:
            raise UsageError(
                f"{where}: row {number}, column 'answer': {raw['answer'][:60]!r} is not one of {', '.join(choices)}"
            )
        given = "\n".join(filter(None, (raw["instruction"].strip(), str(raw.get("input") or "").strip())))
        item = {
            "question": f"{given}\n\n{LEAD}",
            "choices": choices,
            "answer": choices.index(raw["answer"].strip()),
        }
        if wrong := wrong_item(**item):
            raise UsageError(f"{where}: row {number}, column 'instruction': {wrong[1]}")
        yield item
