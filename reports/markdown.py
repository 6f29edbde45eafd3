"""A Markdown table a comparison: reads well in a terminal and on GitHub."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tabulate import tabulate

from peftbench import report
from peftbench.costs import Latency
from peftbench.ratios import Slowdown
from peftbench.sizes import Sizes, by_size
from peftbench.stats import Estimate
from peftbench.summary import RANKED_TASKS, Summary, summarise
from peftbench.table import Row, Table

from ._latency import latency_markdown

MISSING = "–"


@report("markdown", suffix=".md", latency=latency_markdown)
def markdown(tables: Sequence[Table]) -> str:
    """One row a method, baselines marked, units in the header, footnotes below; numbers of training items and tasks are
    summed up at the end."""
    parts = [*(_one(table) for table in tables), *(_sizes(s) for s in by_size(tables))]
    return "\n".join([*parts, *(_summary(s) for s in summarise(tables))])


def _one(table: Table) -> str:
    percent = 100.0 if table.is_share else 1.0
    unit = f" {table.unit}" if table.unit else ""
    cells = _grid(table)
    headers = ["method", f"{table.metric}{unit}"]
    if table.reference:
        headers.append(f"vs {table.reference} (p)")
    if any(row.nll_difference for row in table.rows):
        headers.append(f"NLL vs {table.reference}")
    if any(row.forgetting for row in table.rows):
        headers.append("forgetting")
    headers.append("checks")
    headers += ["trained", "head", "stored kB", "train peak MB", "step ms (p95)", "tokens/s"]
    if any(row.seconds_to_reference for row in table.rows):
        headers.append(f"s to {table.reference}")
    headers += [f"{batch}x{length} slow-down % (merged)" for batch, length in cells]
    body = [_line(row, table, percent, cells, headers) for row in table.rows]
    text = tabulate(
        body,
        headers,
        tablefmt="github",
        disable_numparse=True,
        colalign=["left"] + ["right"] * (len(headers) - 1),
    )
    size = table.settings["train_items"]
    of = "" if size is None else f" ({size:,} training items)"
    lines = [f"### {table.task}{of} with {table.model}", "", table.caption, "", text, ""]
    lines += [f"- **{row.label}** {_trouble(row)}" for row in table.rows if row.reason]
    lines += [f"- {note}" for note in table.footnotes]
    return "\n".join(lines) + "\n"


def _line(
    row: Row, table: Table, percent: float, cells: list[tuple[int, int]], headers: list[str]
) -> list[str]:
    name = f"{row.label} (baseline)" if row.baseline else row.label
    if row.status != "ok":
        return [name, row.status, *([MISSING] * (len(headers) - 2))]
    if row.seeds_good < row.seeds_tried:
        name += f" {row.seeds_good}/{row.seeds_tried} seeds"
    line = [name, _score(row, percent)]
    if table.reference:
        line.append(_difference(row, percent))
    if f"NLL vs {table.reference}" in headers:
        line.append(_nll(row))
    if "forgetting" in headers:
        line.append(MISSING if row.forgetting is None else _nats(row.forgetting))
    line.append(_checks(row))
    line += [
        _count(row.costs.adapter_parameters),
        _count(row.costs.head_parameters),
        _scaled(row.costs.stored_bytes, 1e3, 0),
        _scaled(row.costs.train_peak_bytes, 1e6, 0),
        _step(row),
        _scaled(row.costs.tokens_per_s, 1, 0),
    ]
    if f"s to {table.reference}" in headers:
        line.append(_seconds(row.seconds_to_reference))
    latency = {(cell.batch, cell.length): cell for cell in row.costs.latency}
    return line + [_latency(latency.get(cell)) for cell in cells]


def _trouble(row: Row) -> str:
    """Why a row has no figures, or fewer seeds than were tried."""
    if row.status == "not supported":
        return f"not supported: {row.reason}"
    return f"failed in {row.seeds_tried - row.seeds_good} of {row.seeds_tried} seeds: {row.reason}"


def _grid(table: Table) -> list[tuple[int, int]]:
    return list(dict.fromkeys((cell.batch, cell.length) for row in table.rows for cell in row.costs.latency))


def _score(row: Row, percent: float) -> str:
    if row.score is None:
        return MISSING
    text = _with_interval(row.score, percent, sign="")
    return {"best": f"**{text}**", "equivalent": f"{text} ≈", "open": f"{text} ?"}.get(row.mark, text)


def _difference(row: Row, percent: float) -> str:
    if row.difference is None:
        return MISSING
    p = (
        ""
        if row.p_holm is None
        else f" ({'<.001' if row.p_holm < 0.001 else f'{row.p_holm:.3f}'.lstrip('0')})"
    )
    return _with_interval(row.difference, percent, sign="+") + p


def _nll(row: Row) -> str:
    return MISSING if row.nll_difference is None else _nats(row.nll_difference)


def _nats(estimate: Estimate) -> str:
    half = estimate.half_width()
    return f"{estimate.value:+.3f}" + ("" if half is None else f" ±{half:.3f}")


def _checks(row: Row) -> str:
    """Passed of claimed; a failure is marked."""
    claimed = [check for check in row.checks if check.outcome not in ("not claimed", "not tested")]
    if not claimed:
        return MISSING
    passed = sum(check.outcome == "pass" for check in claimed)
    return f"{passed}/{len(claimed)}" + ("" if passed == len(claimed) else " FAIL")


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
            line += [_with_interval(method.difference, 100.0, sign="+"), tally]
        body.append([*line, f"{method.mean_rank:.1f}"])
    text = tabulate(
        body,
        headers,
        tablefmt="github",
        disable_numparse=True,
        colalign=["left"] + ["right"] * (len(headers) - 1),
    )
    lines = [f"### {len(summary.tasks)} tasks with {summary.model}", "", text, ""]
    lines.append(
        "- ± is the 95 % interval over tasks: what another task would say. Better and worse: the task's own interval "
        "excludes 0; equal: shown to lie within ±1 point."
    )
    if len(summary.tasks) < RANKED_TASKS:
        lines.append(
            f"- Mean ranks over fewer than {RANKED_TASKS} tasks are mostly chance: no claim can rest on them."
        )
    if summary.left_out:
        lines.append(f"- Not in it, other units: {', '.join(summary.left_out)}.")
    return "\n".join(lines) + "\n"


def _sizes(found: Sizes) -> str:
    percent = 100.0 if found.is_share else 1.0
    headers = ["method", *("all" if size is None else f"{size:,}" for size in found.sizes)]
    body = [
        [method, *(MISSING if row is None else _score(row, percent) for row in rows)]
        for method, rows in found.rows.items()
    ]
    unit = f" {found.unit}" if found.unit else ""
    text = tabulate(
        body,
        headers,
        tablefmt="github",
        disable_numparse=True,
        colalign=["left"] + ["right"] * len(found.sizes),
    )
    lines = [f"### {found.metric}{unit} by training items, {found.task} with {found.model}", "", text, ""]
    lines.append(
        "- The same items for every method and seed, the fewer among the more; validation and test are whole throughout. "
        "Marks are those of each column's own table."
    )
    return "\n".join(lines) + "\n"


def _with_interval(estimate: Estimate, percent: float, sign: str) -> str:
    half = estimate.half_width()
    spread = "" if half is None else f" ±{half * percent:.1f}"
    return f"{estimate.value * percent:{sign}.1f}{spread}"


def _latency(cell: Latency | None) -> str:
    if cell is None or cell.unmerged is None:
        return MISSING
    none = " ≈" if cell.merged_is_none else ""
    merged = "" if cell.merged is None else f" ({_percent(cell.merged)}{none})"
    return _percent(cell.unmerged) + merged


def _percent(slowdown: Slowdown) -> str:
    return f"{slowdown.value * 100:+.1f} ±{slowdown.half_width() * 100:.1f}"


def _step(row: Row) -> str:
    if row.costs.step_ms is None:
        return MISSING
    return f"{row.costs.step_ms:,.1f} ({row.costs.step_p95_ms:,.1f})"


def _seconds(by_seed: Sequence[float | None]) -> str:
    """Median over the seeds that reached it, and how many did."""
    reached = [seconds for seconds in by_seed if seconds is not None]
    if not reached:
        return "never" if by_seed else MISSING
    share = "" if len(reached) == len(by_seed) else f" ({len(reached)}/{len(by_seed)})"
    return f"{statistics.median(reached):.1f}{share}"


def _count(number: int | None) -> str:
    return MISSING if number is None else f"{number:,}"


def _scaled(number: float | None, unit: float, digits: int) -> str:
    return MISSING if number is None else f"{number / unit:,.{digits}f}"
