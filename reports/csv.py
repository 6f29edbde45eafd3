"""Comma-separated values: one line a row of the comparison, every column, shares as fractions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftbench import report
from peftbench.render.columns import selected
from peftbench.tables.latency import LatencyTable
from peftbench.tables.table import Table

from ._latency import latency_rows


def _latency(tables: Sequence[LatencyTable]) -> str:
    return _written(latency_rows(tables))


@report("csv", suffix=".csv", latency=_latency)
def csv(tables: Sequence[Table]) -> str:
    """Every column, units in the header, unknown left empty."""
    return _written([row for table in tables for row in selected(table)])


def _written(rows: list[dict[str, Any]]) -> str:
    import pandas as pd  # a quarter of a second that other reports need not wait for

    return pd.DataFrame(rows).to_csv(index=False)
