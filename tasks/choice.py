"""The user's own multiple-choice questions, in JSON Lines or Parquet: `choice:path=quiz.jsonl`."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from peftbench import Choice, UsageError, task
from peftbench.data.digests import sha256_of
from peftbench.data.splits import SHARES, numbered, split_rows
from peftbench.folders import expanded
from peftbench.objectives.base import SPLITS
from peftbench.objectives.choice import METRICS

from ._choice_rows import Row, in_order, repeated, rows_of, units_of
from ._published import datasets_of

FILES = {"train": "path", "validation": "validation", "test": "test"}  # the field of each split


@task("choice", version="1")
@dataclass(frozen=True)
class OwnChoices:
    """Your own multiple-choice questions, scored by the likelihood of each option; JSON Lines or Parquet.

    A missing split is cut off the training rows, 20 % for test and 10 % for validation; equal questions and groups stay together.
    """

    path: str = dataclasses.field(metadata={"file": True})
    question: str = "question"  # column of a text
    choices: str = "choices"  # column of a list of texts
    answer: str = "answer"  # column of an index from 0, a letter or an option
    group: str | None = None
    validation: str | None = dataclasses.field(default=None, metadata={"file": True})
    test: str | None = dataclasses.field(default=None, metadata={"file": True})
    split_seed: int = 0
    metric: str = "acc"  # the primary one, or acc_norm

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {self.metric!r}")
        if len({self.question, self.choices, self.answer}) < 3:
            raise ValueError("question, choices and answer must be three columns")

    @property
    def objective(self) -> Choice:
        return Choice((self.metric, *(name for name in METRICS if name != self.metric)))

    def fingerprint(self) -> str:
        """Of the content of every file that is given."""
        digest = hashlib.sha256()
        for split, file in self._files().items():
            if not file.is_file():
                rows_of(file, {})  # which says why
            digest.update(split.encode() + sha256_of(file))
        return digest.hexdigest()

    def splits(self) -> dict[str, Any]:
        schema = pa.schema(
            [("question", pa.string()), ("choices", pa.list_(pa.string())), ("answer", pa.int64())]
            + ([("group", pa.string())] if self.group else [])
        )
        return datasets_of({split: pa.Table.from_pylist(rows, schema) for split, rows in self._cut.items()})

    def notices(self) -> list[str]:
        """Where each split comes from, and what is in two of them."""
        self._cut  # noqa: B018  says at once where there is too little to cut
        return [*self._origins(), *repeated(self._given)]

    def _files(self) -> dict[str, Path]:
        named = {split: getattr(self, field) for split, field in FILES.items()}
        return {split: expanded(name, FILES[split]) for split, name in named.items() if name is not None}

    def _origins(self) -> Iterator[str]:
        own = " and ".join(split for split in self._given if split != "train")
        if cut := " and ".join(split for split in SPLITS if split not in self._given):
            yield f"{cut} cut off the training rows (split_seed {self.split_seed})" + (
                f", {own} as given" if own else ""
            )
        else:
            yield f"{own} as given"

    @functools.cached_property
    def _given(self) -> dict[str, list[Row]]:
        columns = {name: getattr(self, name) for name in ("question", "choices", "answer", "group")}
        wanted = {name: column for name, column in columns.items() if column is not None}
        return {split: rows_of(file, wanted) for split, file in self._files().items()}

    @functools.cached_property
    def _cut(self) -> dict[str, list[Row]]:
        """The rows of each split; a file of a split keeps its order, by which a user finds its rows again."""
        given, train = self._given, self._given["train"]
        shares = {split: SHARES[split] for split in SPLITS if split == "train" or split not in given}
        units = units_of(train, self.split_seed)
        answers = np.array([row["answer"] for row in train], np.int64)
        where = split_rows(units, numbered(units, answers), shares)
        found = {
            split: given[split] if split in given and split != "train" else in_order(train, where[split])
            for split in SPLITS
        }
        if empty := [split for split, rows in found.items() if not rows]:
            apart = f"{len(train):,} rows, {len(np.unique(units)):,} different questions or groups"
            what = (
                f"cut a {empty[0]} split from" if empty[0] != "train" else "train on beside what is cut off"
            )
            named = empty[0] if empty[0] != "train" else "test"
            raise UsageError(
                f"{self.path!r} has too few rows to {what} ({apart}); give one with :{named}=FILE"
            )
        return found
