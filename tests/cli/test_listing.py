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
        assert set(str(row.get("fields", "")).split()) <= {word.rstrip(";") for word in said}
