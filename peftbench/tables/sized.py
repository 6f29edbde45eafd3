"""How near methods came to the figure that they were sized to (`--match`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.match import Match
from ..records.results import Result
from .table import Row


def notes(rows: Sequence[Row], reported: Sequence[Result]) -> list[str]:
    """A footnote for each figure; none where nothing was sized."""
    asked = {r.record.run.method: r.record.run.match for r in reported if r.record.run.match is not None}
    said = []
    for text in dict.fromkeys(asked.values()):
        match = Match.of(text)
        came = [
            f"{row.label} {figure:,} ({figure / match.target - 1:+.1%})"
            for row in rows
            if asked.get(row.method) == text and (figure := _figure(row, match)) is not None
        ]
        if came:
            said.append(
                f"Sized to {match.said} by a field of each method: {', '.join(came)}. The other rows are as they are."
            )
    return said


def _figure(row: Row, match: Match) -> int | None:
    found = row.costs.figures.get("trained" if match.kind == "params" else "stored")
    return None if found is None else int(found)
