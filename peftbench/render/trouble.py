"""Why a row has no figures, or fewer seeds than were tried."""

from __future__ import annotations

from ..tables.table import Row


def trouble(row: Row) -> str:
    """What came of a row that has a reason."""
    if row.status == "not supported":
        return f"not supported: {row.reason}"
    return f"failed in {row.seeds_tried - row.seeds_good} of {row.seeds_tried} seeds: {row.reason}"
