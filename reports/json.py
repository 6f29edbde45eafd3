"""Strict JSON: the rows of a comparison with its caption, settings and footnotes."""

from __future__ import annotations

import json as library
from collections.abc import Sequence

from peftbench import report
from peftbench.finite import finite
from peftbench.render.columns import selected
from peftbench.render.flat import tuning_curve
from peftbench.tables.latency import LatencyTable
from peftbench.tables.table import Table

from ._latency import latency_content


def _latency(tables: Sequence[LatencyTable]) -> str:
    return (
        library.dumps(finite(latency_content(tables)), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    )


@report("json", suffix=".json", latency=_latency)
def json(tables: Sequence[Table]) -> str:
    """A list of comparisons; every column, unknown as null."""
    content = [
        {
            "model": table.model,
            "task": table.task,
            "caption": table.caption,
            "settings": dict(table.settings),
            "rows": selected(table),
            "tuning": {row.label: tuning_curve(row) for row in table.shown_rows if row.rate_curve},
            "footnotes": list(table.footnotes),
        }
        for table in tables
    ]
    return library.dumps(finite(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
