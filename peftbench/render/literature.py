"""Published rows below the tables that were measured, with what differs between the two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..tables.literature import PublishedRow, of_task
from ..tables.table import Table
from .columns import MISSING, Cell, with_interval
from .markdown import pipe_table, plain_text

UNLIKE = "Not measured here: another program, machine and budget, often another model; differences from the rows above do not come from the methods alone."


def literature_text(rows: Sequence[PublishedRow], tables: Sequence[Table]) -> str:
    """A section for each measured task that somebody published, and one for each task of a source that stands beside none."""
    parts, above = [], set()
    for table in tables:
        found = [row for row in of_task(rows, table.task) if row.metric in _metrics(table)]
        above |= {_whose(row) for row in found}
        if found:
            title = f"Published beside {table.task} with {table.model}"
            parts.append(_section(title, found, [*_differs(found, table), UNLIKE, *_own(table)]))
    others = [
        row for row in rows if _whose(row) not in above
    ]  # of a paper with many tasks the rest is left out
    for task in dict.fromkeys(row.task for row in others):
        its = [row for row in others if row.task == task]
        parts.append(_section(f"Published: {task}", its, [UNLIKE]))
    return "\n".join(parts)


def _whose(row: PublishedRow) -> str:
    return row.source.partition(",")[0]


def _metrics(table: Table) -> set[str]:
    return {table.metric, *(name for row in table.rows for name in row.quality)}


def _section(title: str, rows: Sequence[PublishedRow], notes: Sequence[str]) -> str:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    costs = any(row.peak_bytes or row.train_s or row.stored_bytes for row in rows)
    headers = [
        "method",
        "model",
        "parameters",
        *metrics,
        *(["peak GB", "train s", "stored MB"] if costs else []),
    ]
    by_row: dict[tuple[str, ...], dict[str, PublishedRow]] = {}
    for row in rows:
        by_row.setdefault((row.source, row.method, row.model, row.parameters, row.settings), {})[
            row.metric
        ] = row
    body = []
    for (_, method, model, parameters, _), figures in by_row.items():
        any_of = next(iter(figures.values()))
        line = [method, model, parameters, *(_figure(figures.get(metric)) for metric in metrics)]
        if costs:
            line += [_scaled(any_of.peak_bytes, 1e9, 1), _scaled(any_of.train_s, 1, 0), _scaled(any_of.stored_bytes, 1e6, 1)]  # fmt: skip
        body.append(line)
    lines = [
        plain_text(f"### {title}"),
        "",
        pipe_table(headers, [[Cell(text) for text in line] for line in body], left=2),
        "",
    ]
    lines += [f"- Published: {plain_text(source)}" for source in _sources(rows)]
    lines += [f"- {plain_text(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def _sources(rows: Iterable[PublishedRow]) -> list[str]:
    """Each source with its settings, and which methods they are of where they differ."""
    by_source: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        by_source.setdefault((row.source, row.settings), {})[row.method] = None
    return [
        f"{source}: {', '.join(methods)}" + (f"; {settings}" if settings else "")
        for (source, settings), methods in by_source.items()
    ]


def _differs(rows: Sequence[PublishedRow], table: Table) -> list[str]:
    models = sorted({row.model for row in rows} - {table.model, table.model.rpartition("/")[2]})
    said = [f"Differs: model {', '.join(models)} there, {table.model} here"] if models else []
    return [*said, f"Here: {table.caption}"]


def _own(table: Table) -> list[str]:
    """What was measured here, in one line, so that nobody scrolls."""
    percent = 100.0 if table.is_share else 1.0
    found = [
        f"{row.label} {with_interval(row.score, percent, sign='')}"
        for row in table.rows
        if row.score is not None
    ]
    return [f"Measured here, {table.metric}: {', '.join(found)}"] if found else []


def _figure(row: PublishedRow | None) -> str:
    if row is None:
        return MISSING
    if row.value is None:
        return "failed"
    return f"{row.value:g}" + (f" ±{row.spread}" if row.spread else "")


def _scaled(number: float | None, unit: float, digits: int) -> str:
    return MISSING if number is None else f"{number / unit:,.{digits}f}"
