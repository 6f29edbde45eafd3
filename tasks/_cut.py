"""Rows of one file that has no training split, cut into three."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from peftbench.data.splits import SHARES, hashes, split_rows


def cut(
    rows: pa.Table, units: Iterable[str], strata: npt.NDArray[np.int64] | None = None
) -> dict[str, pa.Table]:
    """Training, validation and test rows; those of one unit stay together.

    Args:
        units: (rows,) what each belongs to.
        strata: (rows,) what the shares are kept within: an answer's number; None where there is none.
    """
    labels = np.zeros(rows.num_rows, np.int64) if strata is None else strata
    where = split_rows(hashes(units, 0), labels, SHARES)
    return {split: rows.filter(pa.array(chosen)) for split, chosen in where.items()}
