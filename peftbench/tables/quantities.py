"""The figures that plots put on their axes, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..records.record import Record
from ..stats.estimate import Estimate, t_quantile
from .costs import headline_bytes, step_ms
from .table import Row, Table

SCORE = "score"


@dataclass(frozen=True)
class Value:
    """A figure with the interval it lies in; both ends are the figure where it is counted, None where one run tells no spread."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measure:
    """One axis."""

    name: str
    label: str  # with its unit
    higher_is_better: bool
    log: bool  # shown on a logarithmic axis, where every value is above 0
    values: tuple[Value | None, ...]  # a row each, as in the table


def measures_of(table: Table) -> list[Measure]:
    """Those that some row of the table has a value for, the primary metric first."""
    percent = 100.0 if table.is_share else 1.0
    by_row = [_records_of(table, row) for row in table.rows]

    def rows(of: Callable[[Row], Value | None]) -> tuple[Value | None, ...]:
        return tuple(of(row) if row.status == "ok" else None for row in table.rows)

    def seeds(of: Callable[[Record], float | None]) -> tuple[Value | None, ...]:
        return tuple(_over_seeds([v for r in records if (v := of(r)) is not None]) for records in by_row)

    unit = f", {table.unit}" if table.unit else ""
    found = [
        Measure(SCORE, f"{table.metric}{unit}", table.higher_is_better, False, rows(lambda r: _of(r.score, percent))),
        Measure("nll", "negative log-likelihood an item, nats", False, False, rows(lambda r: _of(r.quality.get("nll")))),
        Measure("trained", "numbers trained beside the head", False, True, rows(lambda r: _exactly(r.costs.adapter_parameters))),
        Measure("stored", "stored, kB", False, True, rows(lambda r: _exactly(r.costs.stored_bytes, 1e3))),
        Measure("peak", "train peak, MB", False, False, seeds(lambda r: _scaled(headline_bytes((r.memory or {}).get("train")), 1e6))),
        Measure("step", "training step, ms", False, False, seeds(step_ms)),
        Measure("train_s", "training, s", False, False, seeds(_train_s)),
        Measure("forgetting", "forgetting, nats a token", False, False, rows(lambda r: _of(r.forgetting))),
    ]  # fmt: skip
    places = dict.fromkeys((c.batch, c.length) for row in table.rows for c in row.costs.latency)
    for kind in ("unmerged", "merged"):
        for batch, length in places:
            label = f"slow-down at {batch}x{length} {kind}, %"
            values = rows(lambda r, p=(batch, length), k=kind: _slowdown(r, p, k))  # type: ignore[misc]
            found.append(Measure(f"{kind}_{batch}x{length}", label, False, False, values))
    return [measure for measure in found if any(value is not None for value in measure.values)]


def _records_of(table: Table, row: Row) -> list[Record]:
    return [r for r in table.records if r.status == "ok" and of_row(r, row)]


def of_row(record: Record, row: Row) -> bool:
    """Whether a run of a table is one of a row's."""
    return record.run.method == row.method and (record.run.learning_rate or None) == row.learning_rate


def _of(estimate: Estimate | None, times: float = 1.0) -> Value | None:
    if estimate is None:
        return None
    half = estimate.half_width() if estimate.seeds > 1 else None  # items alone tell no method from another
    value = estimate.value * times
    if half is None:
        return Value(value, None, None)
    return Value(value, value - half * times, value + half * times)


def _exactly(number: float | None, unit: float = 1.0) -> Value | None:
    return None if number is None else Value(number / unit, number / unit, number / unit)


def _scaled(number: float | None, unit: float) -> float | None:
    return None if number is None else number / unit


def _over_seeds(values: Sequence[float]) -> Value | None:
    """The mean over the seeds with its t interval."""
    if not values:
        return None
    middle = math.fsum(values) / len(values)
    if len(values) < 2:
        return Value(middle, None, None)
    variance = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    half = t_quantile(0.025, len(values) - 1) * math.sqrt(variance / len(values))
    return Value(middle, max(0.0, middle - half), middle + half)


def _train_s(record: Record) -> float | None:
    training: dict[str, Any] = record.training or {}
    if "fit_s" in training:
        return float(training["fit_s"])
    return float(sum(training["step_s"])) if training.get("step_s") else None


def _slowdown(row: Row, place: tuple[int, int], kind: str) -> Value | None:
    cell = next((c for c in row.costs.latency if (c.batch, c.length) == place), None)
    slow = None if cell is None else (cell.merged if kind == "merged" else cell.unmerged)
    if slow is None:
        return None
    low, high = slow.interval()
    return Value(slow.value * 100, low * 100, high * 100)
