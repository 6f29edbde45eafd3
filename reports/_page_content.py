"""What the HTML page holds, as plain values: it draws and computes nothing that is not here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from peftbench.finite import finite
from peftbench.parallel import parallel_map
from peftbench.records.record import Record
from peftbench.render.columns import columns_of, percent_of, text_rows, written
from peftbench.render.flat import flat_rows, tuning_curve
from peftbench.tables.axes import axes_of, of_row
from peftbench.tables.pareto import fronts
from peftbench.tables.quantities import TRAIN_S
from peftbench.tables.table import Row, Table
from peftbench.tables.titles import titles_of

CURVE_POINTS = 40  # of a run's training loss: enough to see its shape
DIGITS = 5  # of a figure that is only drawn
HIDDEN = ("model", "task", "label", "baseline", "reference", "metric", "device", "dtype")  # said elsewhere


def content_of(tables: Sequence[Table]) -> str:
    """The page's content as JSON. Environments are kept once, as most runs share theirs."""
    environments: list[dict[str, Any]] = []
    for record in (record for table in tables for record in table.records):
        if record.environment not in environments:
            environments.append(record.environment)
    titles = titles_of(tables)

    def made(i: int) -> str:
        return _json(_table(tables[i].as_shown, titles[i], environments))

    texts = parallel_map(made, len(tables), sum(len(table.records) for table in tables))
    return f'{{"tables":[{",".join(texts)}],"environments":{_json(environments)}}}'


def _json(value: Any) -> str:
    return json.dumps(finite(value), allow_nan=False, separators=(",", ":"))


def _table(table: Table, title: str, environments: list[dict[str, Any]]) -> dict[str, Any]:
    axes = axes_of(table)
    return {
        "title": title,
        "caption": table.caption,
        "metric": table.metric,
        "unit": table.unit,
        "percent": percent_of(table),
        "reference": table.reference,
        "settings": {name: value for name, value in table.settings.items() if value is not None},
        "footnotes": [note.replace("**", "") for note in table.footnotes],
        "columns": _columns(table),
        "rows": [_row(table, row) for row in table.rows],
        "measures": [
            {
                "name": m.name,
                "label": m.label,
                "log": m.log,
                "up": m.higher_is_better,
                "values": [None if v is None else [_short(v.value), _short(v.low), _short(v.high)] for v in m.values],
            }
            for m in axes
        ],
        "fronts": {" ".join(pair): found for pair, found in fronts(table, axes).items()},
        "runs": [_run(record, table, environments) for record in table.records],
    }  # fmt: skip


def _columns(table: Table) -> list[dict[str, Any]]:
    """Those of the other reports, then every raw figure, which are chosen rather than shown."""
    headers, body = text_rows(table)
    shown = columns_of(table)
    flat = flat_rows(table)
    found = []
    for i, (column, header) in enumerate(zip(shown, headers, strict=True)):
        raw = [row.get(column.flat) for row in flat]
        cells = [
            [line[i].text, _sortable(value), line[i].bold] for line, value in zip(body, raw, strict=True)
        ]
        found.append({"name": column.name, "header": header, "shown": True, "cells": cells})
    known = {column.flat for column in shown} | set(HIDDEN)
    taken = {column.name for column in shown}
    for name in dict.fromkeys(name for row in flat for name in row if name not in known):
        values = [row.get(name) for row in flat]
        if any(value is not None for value in values):
            cells = [[written(value), _sortable(value), False] for value in values]
            own = f"{name} (raw)" if name in taken else name  # a short name may mean another figure
            found.append({"name": own, "header": own.replace("_", " "), "shown": False, "cells": cells})
    return found


def _row(table: Table, row: Row) -> dict[str, Any]:
    chosen = row.rate_curve.chosen if row.rate_curve is not None and row.tuned else None
    return {
        "label": row.label,
        "baseline": row.baseline,
        "status": row.status,
        "reason": row.reason,
        "memory": {kind: size / 1e6 for kind, size in row.costs.memory_by_kind.items()},
        "rates": [
            {
                "rate": trial["learning_rate"],
                "nll": _short(trial["nll"]),
                "seeds": [_short(value) for value in trial["nll_by_seed"]],
                "reason": trial["reason"],
            }
            for trial in tuning_curve(row)
        ],
        "chosen": None if chosen is None else chosen.learning_rate,
        "latency": [
            {
                "batch": cell.batch,
                "length": cell.length,
                "unmerged": _slow(cell.unmerged),
                "merged": _slow(cell.merged),
            }
            for cell in row.costs.latency
        ],
        "runs": [i for i, record in enumerate(table.records) if of_row(record, row)],
    }


def _slow(slow: Any) -> list[float | None] | None:
    """Percent, and half of the width of its interval."""
    return None if slow is None else [_short(slow.value * 100), _short(slow.half_width() * 100)]


def _run(record: Record, table: Table, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """One run; the settings that all runs of the table share are the table's."""
    training = record.training or {}
    losses = training.get("losses") or []
    few = np.linspace(0, len(losses) - 1, min(CURVE_POINTS, len(losses)))
    steps = sorted({int(place) for place in few})
    tokens = np.cumsum(training.get("tokens") or [0.0])
    curve = []
    for point in record.curve or []:
        place = min(point["step"], len(tokens)) - 1
        figures = [_short(point.get(name)) for name in (table.metric, "nll")]
        curve.append([point["step"], _short(point["train_s"]), int(tokens[place]), *figures])
    return {
        "key": record.key[:12],
        "seed": record.run.seed,
        "status": record.status,
        "reason": record.reason,
        "phase": record.failed_phase,
        "step": record.failed_step,
        "started": record.started_at[:19],
        "wall_s": _short(record.wall_s),
        "learning_rate": record.run.learning_rate or None,
        "quality": {name: _short(value) for name, value in (record.quality or {}).items()},
        "checks": [[c["name"], c["outcome"], c["detail"]] for c in record.checks or []],
        "loss": [[i + 1, _short(losses[i])] for i in steps],
        "train_s": _short(TRAIN_S.of_runs([record])),
        "curve": curve,
        "log": record.log_tail or [],
        "environment": environments.index(record.environment),
    }  # fmt: skip


def _sortable(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None


def _short(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
