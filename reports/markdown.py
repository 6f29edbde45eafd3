"""A Markdown table a comparison: reads well in a terminal and on GitHub."""

from __future__ import annotations

from collections.abc import Sequence

from peftbench import report
from peftbench.render.columns import MISSING, Cell, score, text_rows, with_interval
from peftbench.render.in_words import in_words
from peftbench.render.markdown import pipe_table, plain_text
from peftbench.render.trouble import trouble
from peftbench.tables.summary import RANKED_TASKS, Summary, summarise
from peftbench.tables.table import Table
from peftbench.tables.titles import titles_of
from peftbench.tables.train_sizes import Sizes, by_size

from ._latency import latency_markdown


@report("markdown", suffix=".md", latency=latency_markdown)
def markdown(tables: Sequence[Table]) -> str:
    """One row a method, baselines marked, units in the header, footnotes below; numbers of training items and tasks are
    summed up at the end."""
    titled = zip(tables, titles_of(tables), strict=True)
    parts = [_one(table, title) for table, title in titled]
    return "\n".join([*parts, *filter(None, [over_several(tables)])])


def over_several(tables: Sequence[Table]) -> str:
    """What stands below several tables: one over numbers of training items, one over tasks. Empty where there is none."""
    return "\n".join([*(_sizes(s) for s in by_size(tables)), *(_summary(s) for s in summarise(tables))])


def _one(table: Table, title: str) -> str:
    headers, body = text_rows(table)
    text = pipe_table(headers, body)
    lines = [plain_text(f"### {title}"), "", plain_text(table.caption), "", text, ""]
    lines += [plain_text(said), ""] if (said := in_words(table)) else []
    lines += [plain_text(f"- **{row.label}** {trouble(row)}") for row in table.shown_rows if row.reason]
    lines += [plain_text(f"- {note}") for note in table.footnotes]
    return "\n".join(lines) + "\n"


def _summary(summary: Summary) -> str:
    headers = [
        "method",
        "tasks",
        f"mean difference to {summary.reference}, points",
        "better/equal/worse (undecided)",
        "mean rank",
    ]
    body = []
    for method in summary.methods:
        line = [method.method, str(method.tasks)]
        if method.difference is None:
            line += [MISSING, MISSING]
        else:
            tally = f"{method.wins}/{method.ties}/{method.losses} ({method.undecided})"
            line += [with_interval(method.difference, 100.0, sign="+"), tally]
        body.append([Cell(text) for text in (*line, f"{method.mean_rank:.1f}")])
    text = pipe_table(headers, body)
    title = f"### {len(summary.tasks)} tasks with {summary.model}" + (
        f", {summary.apart}" if summary.apart else ""
    )
    lines = [plain_text(title), "", text, ""]
    lines.append(
        "- ± is the 95 % interval over tasks. Better and worse: the task's own interval "
        "excludes 0; equal: shown to lie within ±1 point."
    )
    if len(summary.tasks) < RANKED_TASKS:
        lines.append(
            f"- Mean ranks over fewer than {RANKED_TASKS} tasks are mostly chance: no claim can rest on them."
        )
    if summary.left_out:
        lines.append(f"- Not included, because their units differ: {', '.join(summary.left_out)}.")
    return "\n".join(lines) + "\n"


def _sizes(found: Sizes) -> str:
    percent = 100.0 if found.is_share else 1.0
    headers = ["method", *("all" if size is None else f"{size:,}" for size in found.sizes)]
    body = [
        [Cell(method), *(Cell(MISSING) if row is None else score(row, percent) for row in rows)]
        for method, rows in found.rows.items()
    ]
    unit = f" {found.unit}" if found.unit else ""
    text = pipe_table(headers, body)
    lines = [
        plain_text(
            f"### {found.metric}{unit} by training items, {found.task} with {found.model}"
            + (f", {found.apart}" if found.apart else "")
        ),
        "",
        text,
        "",
    ]
    lines.append(
        "- The same items for every method and seed; a larger size includes the items of a smaller one. The scored items are the same for all sizes. "
        "Marks are those of each column's own table."
    )
    return "\n".join(lines) + "\n"
