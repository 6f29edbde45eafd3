"""The columns of a comparison as text: their headers, their cells and what rows are sorted by. For reports that are read.

A column has a short name (`score`, `peak`), by which `--columns` and `--sort` know it. So does every name of `flat_rows`
(`train_peak_bytes`, `macro_f1`), whose raw value is then shown.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, unknown
from ..stats.estimate import Estimate
from ..stats.slowdown import Slowdown
from ..tables.costs import Latency
from ..tables.gate import out_of_scale
from ..tables.quantities import COLUMN, SLOWDOWN, STEP, Measure, measures_in
from ..tables.retained import RetainedTask
from ..tables.table import Row, Table
from .flat import FIELDS, flat_rows

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """One column, or several of a kind where `parts` gives more than one."""

    name: str
    header: Callable[[Table], str]
    cell: Callable[[Row, Table], Cell]
    flat: str  # the raw figure that it shows, or is sorted by, by its name in `flat_rows`
    shown: Callable[[Table], bool] = lambda table: True
    family: str = ""  # how the names of further raw figures begin that it is made of


def arranged(tables: Sequence[Table], columns: str | None, sort: str | None) -> list[Table]:
    """The same tables with the columns and the order of rows that were asked for.

    Args:
        columns: names with commas; None: the report's own.
        sort: a name, with `:desc` behind it for the largest first; None: by name, baselines last.

    Raises:
        UsageError: no table has a column of that name.
    """
    names = tuple(n.strip() for n in (columns or "").split(",") if n.strip())
    if columns is not None and not names:
        raise UsageError("--columns is empty; name some, as in --columns method,score,peak")
    by, _, order = (sort or "").partition(":")
    if order not in ("", "asc", "desc"):
        raise UsageError(f"--sort {sort!r}: write NAME or NAME:desc")
    if not names and not by:
        return list(tables)
    flat = (name for table in tables for row in flat_rows(table) for name in row)
    short = known_columns()
    known = list(dict.fromkeys([*short, *flat]))
    for name in (*names, *([by] if by else [])):
        if name not in known:
            raise unknown("column", name, known, "short names: " + ", ".join(short))
    return [
        dataclasses.replace(table, columns=names, order=_order(table, by, order == "desc"))
        for table in tables
    ]


def _order(table: Table, by: str, descending: bool) -> tuple[int, ...]:
    """The places of the rows as they are to be shown. What has no figure stands last."""
    if not by:
        return ()
    known = known_columns()
    flat = known[by].flat if by in known else by
    values = [row.get(flat) for row in flat_rows(table)]
    have = [i for i, value in enumerate(values) if value is not None]
    as_text = any(isinstance(values[i], str) for i in have)
    have.sort(key=lambda i: _key(values[i], as_text), reverse=descending)
    return (*have, *(i for i, value in enumerate(values) if value is None))


def _key(value: Any, as_text: bool) -> tuple[float, str]:
    return (0.0, str(value)) if as_text else (float(value), "")


def selected(table: Table) -> list[dict[str, Any]]:
    """Its flat rows with the columns that were asked for, under their raw names."""
    rows = flat_rows(table)
    if not table.columns:
        return rows
    known = known_columns()
    chosen = [known.get(name) or _raw(name) for name in table.columns]
    return [
        {key: value for column in chosen for key, value in row.items() if _is_of(column, key)} for row in rows
    ]


def _is_of(column: Column, key: str) -> bool:
    family = bool(column.family) and key.startswith(column.family) and key not in FIELDS
    return key == column.flat or family


def columns_of(table: Table) -> list[Column]:
    """Those that were asked for, else those that have something to show; latency's one for each cell of its grid."""
    known, further = known_columns(), {facts["name"]: _further(facts) for facts in table.further}
    others = {task.name: _retained(task) for task in table.retained}
    if not table.columns:
        chosen = [column for column in known.values() if column.shown(table)]
        place = max(chosen.index(column) for column in chosen if column in QUALITY[:2]) + 1
        chosen[place:place] = [*further.values(), *others.values()]
    else:
        chosen = [(known | further | others).get(name) or _raw(name) for name in table.columns]
    found: list[Column] = []
    for column in chosen:
        found += _latency_columns(table) if column is LATENCY else [column]
    return found


def text_rows(table: Table) -> tuple[list[str], list[list[Cell]]]:
    """Headers and cells. A row without figures has its status in its first place behind the method."""
    columns = columns_of(table)
    body = []
    for row in table.shown_rows:
        if row.status == "ok":
            body.append([column.cell(row, table) for column in columns])
            continue
        line = [column.cell(row, table) if column is METHOD else Cell(MISSING) for column in columns]
        place = next((i for i, column in enumerate(columns) if column is not METHOD), None)
        if place is not None:
            line[place] = Cell(row.status)
        body.append(line)
    return [column.header(table) for column in columns], body


def percent_of(table: Table) -> float:
    """What scores are multiplied by to be shown."""
    return 100.0 if table.is_share else 1.0


def with_interval(estimate: Estimate, percent: float, sign: str, digits: int | None = None) -> str:
    """A figure ± half its interval, times `percent`; without `digits`, one behind the point of a share, three of an error in units."""
    if digits is None and percent != 100 and out_of_scale(estimate.value, estimate.half_width()):
        half = estimate.half_width()
        return f"{estimate.value * percent:{sign}.3g}" + ("" if half is None else f" ±{half * percent:.3g}")
    digits = (1 if percent == 100 else 3) if digits is None else digits
    half = estimate.half_width()
    spread = "" if half is None else f" ±{half * percent:.{digits}f}"
    value = round(estimate.value * percent, digits) + 0.0  # no "-0.0" of what is nothing once it is rounded
    return f"{value:{sign}.{digits}f}{spread}"


def score(row: Row, percent: float) -> Cell:
    """A score with its interval and its mark; the best, alone, is bold."""
    if row.score is None:
        return Cell(MISSING)
    text = with_interval(row.score, percent, sign="")
    return {"best": Cell(text, bold=True), "equivalent": Cell(f"{text} ≈"), "open": Cell(f"{text} ?")}.get(
        row.mark, Cell(text)
    )


def _name(row: Row, _: Table) -> Cell:
    name = f"{row.label} (baseline)" if row.baseline else row.label
    lost = row.status == "ok" and row.seeds_good < row.seeds_tried
    name += f" {row.seeds_good}/{row.seeds_tried} seeds" if lost else ""
    return Cell(
        name + (f" {len(row.failed_seeds)} of {row.seeds_good} seeds failed" if row.failed_seeds else "")
    )


def _difference(row: Row, table: Table) -> Cell:
    if row.difference is None:
        return Cell(MISSING)
    return Cell(with_interval(row.difference, percent_of(table), sign="+") + in_brackets(row.p_holm))


def in_brackets(p: float | None) -> str:
    """A p-value behind its difference."""
    return "" if p is None else f" ({'<.001' if p < 0.001 else f'{p:.3f}'.lstrip('0')})"


def _nats(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(MISSING)
    half = estimate.half_width()
    return Cell(f"{estimate.value:+.3f}" + ("" if half is None else f" ±{half:.3f}"))


def _checks(row: Row, _: Table) -> Cell:
    """Passed of claimed; a failure is marked."""
    claimed = [check for check in row.checks if check.outcome not in ("not claimed", "not tested")]
    if not claimed:
        return Cell(MISSING)
    passed = sum(check.outcome == "pass" for check in claimed)
    return Cell(f"{passed}/{len(claimed)}" + ("" if passed == len(claimed) else " FAIL"))


def _seconds(row: Row, _: Table) -> Cell:
    """Median over the seeds that reached it, and how many did."""
    by_seed = row.seconds_to_reference
    reached = [seconds for seconds in by_seed if seconds is not None]
    if not reached:
        return Cell("never" if by_seed else MISSING)
    share = "" if len(reached) == len(by_seed) else f" ({len(reached)}/{len(by_seed)})"
    return Cell(f"{statistics.median(reached):.1f}{share}")


BASES_OWN = "none: base's own"  # modules: nothing was added to a forward pass


def _latency_columns(table: Table) -> list[Column]:
    places = dict.fromkeys((cell.batch, cell.length) for row in table.rows for cell in row.costs.latency)
    return [_latency_column(batch, length) for batch, length in places]


def _latency_column(batch: int, length: int) -> Column:
    def cell(row: Row, _: Table) -> Cell:
        found = [c for c in row.costs.latency if (c.batch, c.length) == (batch, length)]
        untimed = BASES_OWN if row.costs.graph_is_base else MISSING
        return Cell(_slow_down(found[0]) if found else untimed)

    name = f"latency_{batch}x{length}_unmerged_slowdown"
    return Column(name, lambda table: f"{batch}x{length} slow-down % (merged)", cell, name)


def _slow_down(cell: Latency) -> str:
    if cell.unmerged is None:
        return MISSING
    none = " ≈" if cell.merged_is_none else ""
    merged = "" if cell.merged is None else f" ({_percent(cell.merged)}{none})"
    return _percent(cell.unmerged) + merged


def _percent(slowdown: Slowdown) -> str:
    return f"{slowdown.value * 100:+.1f} ±{slowdown.half_width() * 100:.1f}"


def _further(facts: Mapping[str, Any]) -> Column:
    """A metric beside the primary one, by what a record keeps of it."""
    name, percent = facts["name"], 100.0 if facts["is_share"] else 1.0

    def cell(row: Row, _: Table) -> Cell:
        found = row.quality.get(name)
        return Cell(MISSING if found is None else with_interval(found, percent, sign=""))

    return Column(name, lambda table: f"{name} {facts['unit']}".strip(), cell, name)


def _retained(task: RetainedTask) -> Column:
    """Another task: its score after training minus before."""

    def cell(row: Row, _: Table) -> Cell:
        found = row.retained.get(task.name)
        return Cell(MISSING if found is None else with_interval(found.difference, task.percent, sign="+"))

    return Column(task.name, lambda table: f"retained {task.spec}: {task.shown_metric}", cell, task.name)


def _raw(name: str) -> Column:
    """A figure of `flat_rows` as it is."""

    def cell(row: Row, table: Table) -> Cell:
        place = next(i for i, other in enumerate(table.shown_rows) if other is row)
        return Cell(written(flat_rows(table)[place].get(name)))

    return Column(name, lambda table: name.replace("_", " "), cell, name)


def written(value: Any) -> str:
    """A raw figure."""
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _unit(table: Table) -> str:
    return f" {table.unit}" if table.unit else ""


def _any(look: Callable[[Row], object]) -> Callable[[Table], bool]:
    return lambda table: any(look(row) for row in table.rows)


METHOD = Column("method", lambda t: "method", _name, "label")
LATENCY = Column(
    "latency", lambda t: "", lambda row, t: Cell(""), SLOWDOWN.name, family="latency_"
)  # stands for its cells
QUALITY = (
    Column("score", lambda t: f"{t.metric}{_unit(t)}", lambda row, t: score(row, percent_of(t)), "score"),
    Column("difference", lambda t: f"vs {t.reference} (p)", _difference, "difference", lambda t: bool(t.reference)),
    Column(
        "nll",
        lambda t: f"NLL vs {t.reference}",
        lambda row, t: _nats(row.nll_difference),
        "nll_difference",
        _any(lambda row: row.nll_difference),
    ),
    Column(
        "forgetting",
        lambda t: "forgetting",
        lambda row, t: _nats(row.forgetting),
        "forgetting_nats",
        _any(lambda row: row.forgetting),
    ),
    Column("checks", lambda t: "checks", _checks, "checks_failed", family="check_"),
)  # fmt: skip
SECONDS = Column(
    "seconds",
    lambda t: f"s to {t.reference}",
    _seconds,
    "seconds_to_reference",
    _any(lambda row: row.seconds_to_reference),
)


def known_columns() -> dict[str, Column]:
    """Every column by its short name, in the order in which they stand."""
    costs = (_measured(measure) for measure in measures_in(COLUMN))
    return {column.name: column for column in (METHOD, *QUALITY, *costs, SECONDS, LATENCY)}


def _measured(measure: Measure) -> Column:
    """The column of a measure: of a step, also the time that one in twenty exceeds."""
    beside = " (p95)" if measure is STEP else ""

    def cell(row: Row, _: Table) -> Cell:
        figure = row.costs.of(measure)
        if figure is None:
            return Cell(MISSING)
        return Cell(
            measure.text(figure) + (f" ({measure.text(row.costs.step_p95_ms or 0.0)})" if beside else "")
        )

    def shown(table: Table) -> bool:
        return measure.always or any(row.costs.of(measure) is not None for row in table.rows)

    return Column(measure.name, lambda t: measure.header + beside, cell, measure.raw, shown)
