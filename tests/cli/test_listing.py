"""What `peftbench list` says fits the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.cli.listing import as_text, listing


@pytest.mark.parametrize("what", ["methods", "tasks", "models", "reports"])
def test_it_fits_a_terminal_and_loses_nothing(what: str) -> None:
    rows = listing(what, Path("nowhere"), ())
    wide, narrow = as_text(rows, None), as_text(rows, 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert len(wide.splitlines()) == len(rows) + 1
    said = set(narrow.split())
    for row in rows:
        assert str(row["name"]).split()[0] in said
        fields = str(row.get("fields", "")).split()
        # A task of another test's file has a path among them that no line holds.
        assert {word for word in fields if len(word) < 60} <= {word.rstrip(";") for word in said}
