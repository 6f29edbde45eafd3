"""A table as flat rows of plain values with units in their names: for CSV, JSON and pandas."""

from __future__ import annotations

import statistics
from typing import Any

from ..stats.estimate import Estimate
from ..tables.footnotes import commits_of
from ..tables.quantities import SLOWDOWN, apart_from, measures
from ..tables.table import Row, Table

# Of a table's settings, those that are columns of their own.
SETTINGS = (
    "device", "dtype", "weights", "attention", "checkpointing", "packing", "optimizer", "threads", "ranks", "parallel", "steps", "epochs", "batch_size", "max_length", "train_items",
    "scored_items",
    "accumulate", "head_learning_rate", "warmup_share", "clip_norm",
)  # fmt: skip

# Of its costs, those that every row has, in the order that scripts know; another measure follows where it is known.
FIELDS = (
    "adapter_parameters", "head_parameters", "stored_bytes", "train_peak_bytes", "train_peak_reserved_bytes", "train_peak_kind",
    "score_peak_bytes", "step_ms", "step_p95_ms", "tokens_per_s", "data_share", "clipped_share", "flops_per_step", "flops_per_s",
    "flop_utilisation", "train_energy_j", "energy_kind", "train_s", "latency_others_cpu_share",
)  # fmt: skip


def flat_rows(table: Table) -> list[dict[str, Any]]:
    """One dictionary a row. Shares stay fractions; what is not known is None."""
    commits = [(name.partition("@")[0], commit) for name, commit in commits_of(table.records)]
    return [
        {
            "model": table.model,
            "task": table.task,
            **{name: table.settings[name] for name in SETTINGS},
            **{f"{name}_version": text for name, text in table.setting.versions().items()},
            "hub_commits": " ".join(f"{name}@{commit}" for name, commit in commits) or None,
            **_flat(row, table),
        }
        for row in table.shown_rows
    ]


def _flat(row: Row, table: Table) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "method": row.method,
        "label": row.label,
        "baseline": row.baseline,
        "status": row.status,
        "reason": row.reason,
        "seeds_good": row.seeds_good,
        "seeds_tried": row.seeds_tried,
        "seeds_failed": len(row.failed_seeds),
        "learning_rate": row.learning_rate,
        "tuned": row.tuned,
        "learning_rate_at_edge": row.rate_curve.edge if row.tuned and row.rate_curve else None,
        "tuning_trials": len(row.rate_curve.trials) if row.rate_curve else 0,
        "metric": table.metric,
        "confidence": 1 - table.alpha,  # of every interval of this row but latency's
        "score": row.score.value if row.score else None,
        "score_half_width": row.score.half_width() if row.score else None,
        "score_of_learned": row.score_of_learned.value if row.score_of_learned else None,
        "reference": table.reference,
        **_difference("", row.difference),
        "p_holm": row.p_holm,
        "mark": row.mark,
        **_difference("nll_", row.nll_difference),
    }
    if row.forgetting is not None:
        flat |= {
            "forgetting_nats": row.forgetting.value,
            "forgetting_nats_half_width": row.forgetting.half_width(),
            "forgetting_text": table.settings["forgetting"],
        }
    for name, kept in row.retained.items():
        flat |= {
            name: kept.difference.value,
            f"{name}_half_width": kept.difference.half_width(),
            f"{name}_before": kept.before,
            f"{name}_after": kept.after,
            f"{name}_nll": kept.nll_difference.value,
            f"{name}_nll_half_width": kept.nll_difference.half_width(),
        }
    apart = {"model", "task", *SETTINGS, *flat, *FIELDS, *(measure.name for measure in measures())}
    for metric, estimate in row.quality.items():
        name = apart_from(metric, apart)
        flat |= {name: estimate.value, f"{name}_half_width": estimate.half_width()}
    if row.checks:
        flat["checks_failed"] = len(row.failed_checks)
    for check in row.checks:
        flat[f"check_{check.name.replace(' ', '_')}"] = check.outcome
    costs = row.costs
    figures = {measure.raw: costs.of(measure) for measure in measures() if measure.raw}
    flat |= {name: figures[name] if name in figures else getattr(costs, name) for name in FIELDS}
    flat |= {name: figure for name, figure in figures.items() if name not in flat and figure is not None}
    flat["throttled"] = ", ".join(costs.throttled) or None
    for kind, size in costs.memory_by_kind.items():
        flat[f"step_peak_{kind}_bytes"] = size
    if row.seconds_to_reference:
        reached = [s for s in row.seconds_to_reference if s is not None]
        flat["seconds_to_reference"] = statistics.median(reached) if reached else None
        flat["seeds_that_reached_reference"] = len(reached)
    if costs.latency or costs.graph_is_base:
        flat[SLOWDOWN.name] = costs.of(SLOWDOWN)
    for cell in costs.latency:
        place = f"latency_{cell.batch}x{cell.length}"
        flat[f"{place}_merged_is_none"] = cell.merged_is_none
        for kind, median_ms, slowdown in (
            ("base", cell.base_ms, None),
            ("copy", None, cell.noise),
            ("unmerged", cell.unmerged_ms, cell.unmerged),
            ("merged", cell.merged_ms, cell.merged),
        ):
            if kind != "copy":
                flat[f"{place}_{kind}_ms"] = median_ms
            if slowdown is not None:
                low, high = slowdown.interval()
                flat |= {
                    f"{place}_{kind}_slowdown": slowdown.value,
                    f"{place}_{kind}_slowdown_low": low,
                    f"{place}_{kind}_slowdown_high": high,
                }
    return flat


def _difference(prefix: str, estimate: Estimate | None) -> dict[str, float | None]:
    return {
        f"{prefix}difference": estimate.value if estimate else None,
        f"{prefix}difference_half_width": estimate.half_width() if estimate else None,
    }


def tuning_curve(row: Row) -> list[dict[str, Any]]:
    """A row's trials on validation, by rate; a loss is null where the rate diverged."""
    return [
        {
            "learning_rate": trial.learning_rate,
            "half_decade": trial.half_decade,
            "nll": None if trial.losses is None else trial.mean,
            "nll_by_seed": [] if trial.losses is None else trial.losses.values.tolist(),
            "reason": trial.reason,
        }
        for trial in (row.rate_curve.trials if row.rate_curve else ())
    ]
