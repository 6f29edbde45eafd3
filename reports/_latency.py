"""Latency tables as text: Markdown in the layout of Hu et al.'s Table 1, and flat rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftbench.render.columns import Cell
from peftbench.render.markdown import pipe_table, plain_text
from peftbench.tables.latency import LatencyTable, Timing, Variant

from ._published import published_for

MISSING = "–"


def latency_markdown(tables: Sequence[LatencyTable]) -> str:
    """A table a section, cells as columns; where a paper measured the same model and cells, its rows stand below."""
    return "\n".join(_one(table) for table in tables)


def _one(table: LatencyTable) -> str:
    lines = [plain_text(f"### Latency of {table.model}"), ""]
    if table.caption:
        lines += [table.caption, ""]
    sources = []
    for position, section in enumerate(table.sections):
        body = [_line(line) for line in section.lines]
        if position == 0:
            for row in published_for(table.model, section.places):
                body.append([f"*{row.label}*, published", row.parameters, *row.figures])
                sources.append(row.source)
        headers = ["variant", "parameters", *section.cells]
        text = pipe_table(headers, [[Cell(text) for text in line] for line in body])
        lines += [f"**{section.title}**", "", text, ""]
    lines += [plain_text(f"- {note}") for note in [*table.footnotes, *dict.fromkeys(sources)]]
    return "\n".join(lines) + "\n"


def _line(line: Variant) -> list[str]:
    count = "" if line.parameters is None or line.merged else f"{line.parameters:,}"
    return [line.variant, count, *(_figure(figure) for figure in line.figures)]


def _figure(figure: Timing) -> str:
    if figure.p50_ms is None:
        return MISSING
    text = f"{figure.p50_ms:,.2f} ({figure.p95_ms:,.2f})"
    if figure.tokens_per_s is not None:
        text += f" {figure.tokens_per_s:,.0f} tokens/s"
    if figure.slowdown is None:
        return text
    none = " ≈" if figure.is_none else ""
    return f"{text} {figure.slowdown.value * 100:+.1f} ±{figure.slowdown.half_width() * 100:.1f} %{none}"


def latency_rows(tables: Sequence[LatencyTable]) -> list[dict[str, Any]]:
    """One flat row for each variant, cell and section."""
    return [
        {
            "model": table.model,
            "section": section.title,
            "variant": line.variant,
            "method": line.method,
            "merged": line.merged,
            "parameters": line.parameters,
            "cell": cell,
            **_flat(figure),
        }
        for table in tables
        for section in table.sections
        for line in section.lines
        for cell, figure in zip(section.cells, line.figures, strict=True)
    ]


def _flat(figure: Timing) -> dict[str, Any]:
    low, high = (None, None) if figure.slowdown is None else figure.slowdown.interval()
    return {
        "p50_ms": figure.p50_ms,
        "p95_ms": figure.p95_ms,
        "tokens_per_s": figure.tokens_per_s,
        "slowdown": None if figure.slowdown is None else figure.slowdown.value,
        "slowdown_low": low,
        "slowdown_high": high,
        "slowdown_is_none": figure.is_none,
        "processes": None if figure.slowdown is None else figure.slowdown.processes,
        "refusal": figure.refusal,
    }


def latency_content(tables: Sequence[LatencyTable]) -> list[dict[str, Any]]:
    """The same with captions and footnotes, for JSON."""
    return [
        {
            "model": table.model,
            "caption": table.caption,
            "rows": latency_rows([table]),
            "footnotes": list(table.footnotes),
        }
        for table in tables
    ]
