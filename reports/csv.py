"""Comma-separated values: one line a row of the comparison, every column, shares as fractions."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from peftbench import report
from peftbench.columns import selected
from peftbench.latency_table import LatencyTable
from peftbench.table import Table

from ._latency import latency_rows


def _latency(tables: Sequence[LatencyTable]) -> str:
    return pd.DataFrame(latency_rows(tables)).to_csv(index=False)


@report("csv", suffix=".csv", latency=_latency)
def csv(tables: Sequence[Table]) -> str:
    """Every column, units in the header, unknown left empty."""
    return pd.DataFrame([row for table in tables for row in selected(table)]).to_csv(index=False)
