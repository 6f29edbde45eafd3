"""Records that were stored by earlier versions, and published with their table, still give that table to the letter."""

from __future__ import annotations

from pathlib import Path

from peftbench import defaults
from peftbench.plugins import registry
from peftbench.records.results import stored_results
from peftbench.tables.tabulate import tables_of

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def test_published_records_give_their_table() -> None:
    found = stored_results(RESULTS / "records" / "rotten-tomatoes")
    made = registry.get("report", defaults.WIDE_REPORT).target(tables_of(found))
    page = (RESULTS / "rotten-tomatoes.md").read_text(encoding="utf-8")
    assert made.startswith("### ") and page[page.index("### ") :] == made
