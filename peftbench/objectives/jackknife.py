"""Jackknife pseudo-values, for metrics that are not means over items (F1, Matthews, Pearson, BLEU).

    p_g = G m - (G - 1) m_(-g)        m: the metric on all items, m_(-g): without those of block g, G blocks

Their mean estimates m, and they take the place of items' scores in `stats.estimate`. A block is a group of items, or
several of them where there are more than `BLOCKS`; every method has the same blocks, so differences stay paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from .base import Objective
from .figures import subsets

BLOCKS = 100  # the degrees of freedom that a jackknife has then are many; each costs a pass of the metric


def pseudo_values(
    objective: Objective, predictions: pd.DataFrame, quality: Mapping[str, float]
) -> pd.DataFrame:
    """One row a block, one column for each metric of `quality` that has no column an item in `predictions`."""
    known = {"nll", objective.metric.name if "score" in predictions else ""}
    wanted = [name for name in quality if name not in known]
    blocks = _blocks(predictions["group"].to_numpy(str))
    numbers = np.unique(blocks)
    rows = []
    of = subsets(objective, predictions)
    for block in numbers if wanted and len(numbers) > 1 else ():
        without = of(blocks != block)
        count = len(numbers)
        rows.append(
            {"block": int(block)}
            | {
                # A part that lies in this block alone is gone without it: the block says nothing of it.
                name: count * quality[name] - (count - 1) * without.get(name, quality[name])
                for name in wanted
            }
        )
    return pd.DataFrame(rows, columns=["block", *wanted])


def _blocks(groups: np.ndarray[tuple[int], np.dtype[np.str_]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The block of each item: its group's number, or a hash of its group where there are too many groups."""
    names, index = np.unique(groups, return_inverse=True)
    if len(names) <= BLOCKS:
        return index.astype(np.int64)
    hashed = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % BLOCKS for name in names]
    return np.asarray(hashed, np.int64)[index]
