"""How near methods came to the figure that they were sized to (`--match`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.match import BYTES_OF_A_NUMBER, Match
from ..records.record import Record
from ..records.results import Result
from .table import Row


def notes(rows: Sequence[Row], reported: Sequence[Result]) -> list[str]:
    """A footnote for each figure; none where nothing was sized."""
    asked = {r.record.run.method: r.record.run.match for r in reported if r.record.run.match is not None}
    said = []
    for text in dict.fromkeys(asked.values()):
        match = Match.of(text)
        figures = {r.record.run.method: _figure(r.record, match) for r in reported}
        came = [
            f"{row.label} {figure:,} ({figure / match.target - 1:+.1%})"
            for row in rows
            if asked.get(row.method) == text and (figure := figures.get(row.method)) is not None
        ]
        if came:
            said.append(
                f"Sized to {match.said} by a field of each method: {', '.join(came)}. The other rows are as they are."
            )
    return said


def _figure(record: Record, match: Match) -> int | None:
    """As the plan counted it: of what is stored the numbers, without the file's header."""
    counted = record.parameters or {}
    numbers = counted.get("adapter" if match.kind == "params" else "stored")
    return None if numbers is None else int(numbers) * (1 if match.kind == "params" else BYTES_OF_A_NUMBER)
