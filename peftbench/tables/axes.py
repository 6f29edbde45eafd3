"""What plots put on their axes: the measures of a table with their values, each in its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..records.record import Record
from ..stats.estimate import Estimate, mean_estimate
from .quantities import AXIS, SCORE, SLOWDOWN, Measure, measures_in
from .table import Row, Table


@dataclass(frozen=True)
class Value:
    """A figure with the interval it lies in; both ends are the figure where it is counted, None where one run tells no spread."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Axis:
    """A measure with its values in one table."""

    name: str
    label: str  # with its unit
    higher_is_better: bool
    log: bool  # shown on a logarithmic axis, where every value is above 0
    values: tuple[Value | None, ...]  # a row each, as in the table


def axes_of(table: Table) -> list[Axis]:
    """Those that some row of the table has a value for: quality, costs, then what latency runs tell cell by cell."""
    percent = 100.0 if table.is_share else 1.0

    def rows(of: Callable[[Row], Value | None]) -> tuple[Value | None, ...]:
        return tuple(of(row) if row.status == "ok" else None for row in table.rows)

    unit = f", {table.unit}" if table.unit else ""
    found = [
        Axis(SCORE, f"{table.metric}{unit}", table.higher_is_better, False, rows(lambda r: _of(r.score, percent))),
        Axis("nll", "negative log-likelihood per item, nats", False, False, rows(lambda r: _of(r.quality.get("nll")))),
        *(_axis(measure, table) for measure in measures_in(AXIS)),
        Axis("forgetting", "forgetting, nats a token", False, False, rows(lambda r: _of(r.forgetting))),
        *(
            Axis(
                task.name, f"{task.spec}: {task.shown_metric}, after minus before", task.metric["higher_is_better"], False,
                rows(lambda r, t=task: _of(r.retained[t.name].difference, t.percent) if t.name in r.retained else None),  # type: ignore[misc]
            )
            for task in table.retained
        ),
    ]  # fmt: skip
    cells = [cell for row in table.rows for cell in row.costs.latency]
    for kind in ("unmerged", "merged"):
        for batch, length in dict.fromkeys(
            (c.batch, c.length) for c in cells if getattr(c, kind) is not None
        ):
            label = f"{SLOWDOWN.label} at {batch}x{length} {kind}, {SLOWDOWN.unit}"
            values = rows(lambda r, p=(batch, length), k=kind: _slowdown(r, p, k))  # type: ignore[misc]
            found.append(Axis(f"{kind}_{batch}x{length}", label, False, False, values))
    return [axis for axis in found if any(value is not None for value in axis.values)]


def _axis(measure: Measure, table: Table) -> Axis:
    """Of what was counted, the row's figure; else the mean over the runs that it is taken from with its interval."""

    def of(row: Row) -> Value | None:
        known = row.costs.by_run.get(measure.name, ())
        if row.status != "ok":
            return None
        if measure.exact and len(set(known)) < 2:
            return _exactly(measure, row.costs.of(measure))
        return _over_runs([measure.shown(figure) for figure in known])

    values = tuple(of(row) for row in table.rows)
    return Axis(measure.name, measure.axis, measure.higher_is_better, measure.log, values)


def of_row(record: Record, row: Row) -> bool:
    """Whether a run of a table is one of a row's."""
    return record.run.method == row.method and (record.run.learning_rate or None) == row.learning_rate


def _of(estimate: Estimate | None, times: float = 1.0) -> Value | None:
    if estimate is None:
        return None
    ends = estimate.interval() if estimate.seeds > 1 else None  # items alone tell no method from another
    value = estimate.value * times
    if ends is None:
        return Value(value, None, None)
    return Value(value, ends[0] * times, ends[1] * times)


def _exactly(measure: Measure, figure: float | None) -> Value | None:
    if figure is None:
        return None
    shown = measure.shown(figure)
    return Value(shown, shown, shown)


def _over_runs(values: Sequence[float]) -> Value | None:
    """The mean over cost runs, or seeds, with its t interval."""
    if not values:
        return None
    found = mean_estimate(values)
    ends = found.interval()
    if ends is None:
        return Value(found.value, None, None)
    return Value(found.value, max(0.0, ends[0]), ends[1])


def _slowdown(row: Row, place: tuple[int, int], kind: str) -> Value | None:
    if row.costs.graph_is_base and not row.costs.latency:  # not timed: it is the base's own pass
        return Value(0.0, 0.0, 0.0)
    cell = next((c for c in row.costs.latency if (c.batch, c.length) == place), None)
    slow = None if cell is None else (cell.merged if kind == "merged" else cell.unmerged)
    if slow is None:
        return None
    low, high = slow.interval()
    return Value(*(SLOWDOWN.shown(figure) for figure in (slow.value, low, high)))
