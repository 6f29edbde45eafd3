"""Rows of a published data set: its training split is cut for validation, another one is the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from peftbench.data.splits import hashes, split_rows

VALIDATION_SHARE, MOST_VALIDATION = 0.1, 2000  # of the training rows


def carve(train: pa.Table, unit: str, strata: np.ndarray[Any, Any] | None) -> tuple[pa.Table, pa.Table]:
    """Training and validation rows; those with the same text in column `unit` stay together.

    Args:
        strata: (rows,) what the share is kept within: a label's number; None where there are none.
    """
    share = min(VALIDATION_SHARE, MOST_VALIDATION / train.num_rows)
    names = (str(value) for chunk in train[unit].chunks for value in chunk.to_pylist())
    labels = np.zeros(train.num_rows, np.int64) if strata is None else strata
    where = split_rows(hashes(names, 0), labels, {"train": 1 - share, "validation": share})
    return train.filter(pa.array(where["train"])), train.filter(pa.array(where["validation"]))


def some_sources(table: pa.Table, inputs: int) -> pa.Table:
    """The rows of so many sources, evenly spread."""
    sources = table["source"].to_numpy()
    names = list(dict.fromkeys(sources))
    kept = {names[i] for i in np.linspace(0, len(names) - 1, min(inputs, len(names))).round().astype(int)}
    return table.filter(pa.array([source in kept for source in sources]))


def datasets_of(tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    """The same as `datasets.Dataset`s."""
    import datasets

    return {
        split: datasets.Dataset(pa.Table.from_batches(t.to_batches(), t.schema))
        for split, t in tables.items()
    }
