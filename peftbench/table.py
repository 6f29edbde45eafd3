"""From records to the rows of a comparison. All that a report shows is computed here or in `stats`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import stats
from .record import Record
from .runs import Budget

MARGIN = 0.01  # differences inside it count as none: one point of a share


@dataclass(frozen=True)
class Latency:
    """One cell of the latency grid."""

    batch: int
    length: int
    base_ms: float | None  # medians over the rounds
    unmerged_ms: float | None
    merged_ms: float | None
    unmerged: stats.Slowdown | None  # over the base
    merged: stats.Slowdown | None
    refusal: str | None = None


@dataclass(frozen=True)
class Row:
    """One method on one model and task. What is not known is None."""

    method: str
    baseline: bool
    status: str  # "ok", "failed" (no seed is good) or "not supported"
    reason: str | None
    seeds_good: int
    seeds_tried: int
    seedless: bool  # one run stands for all seeds
    learning_rate: float | None
    score: stats.Estimate | None = None
    difference: stats.Estimate | None = None  # to the reference method, paired
    p_holm: float | None = None
    mark: str = ""  # "best", "equivalent", "open" or ""
    quality: Mapping[str, float] = field(default_factory=dict)  # every metric, mean over seeds
    adapter_parameters: int | None = None
    head_parameters: int | None = None
    stored_bytes: int | None = None
    train_peak_bytes: int | None = None
    train_peak_kind: str | None = None
    score_peak_bytes: int | None = None
    step_ms: float | None = None
    step_p95_ms: float | None = None
    tokens_per_s: float | None = None
    data_share: float | None = None  # of the loop's time spent cutting batches
    clipped_share: float | None = None
    train_s: float | None = None
    latency: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of one model, task, budget, device and data type, with what a reader must know."""

    model: str
    task: str
    metric: str
    is_share: bool
    higher_is_better: bool
    reference: str | None  # the method that differences are taken to
    caption: str
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A record, and its predictions where it has any."""

    record: Record
    folder: Path | None

    @property
    def seedless(self) -> bool:
        """Whether this one run stands for all seeds."""
        return bool((self.record.claims or {}).get("seedless"))

    def predictions(self) -> pd.DataFrame | None:
        """One row an item of the test split."""
        if self.record.status != "ok" or self.folder is None or self.record.run.kind != "training":
            return None
        return pd.read_parquet(self.folder / "predictions.parquet")


def tabulate(results: Iterable[Result], reference: str, baselines: Sequence[str]) -> list[Table]:
    """One table for each model, task, budget, device and data type among the results.

    Args:
        reference: the method that differences are taken to, where it is among them.
        baselines: the methods that are marked as such and stand last.
    """
    by_table: dict[tuple[Any, ...], list[Result]] = {}
    latencies: dict[tuple[str, ...], Result] = {}
    for result in results:
        run = result.record.run
        if run.kind == "latency":
            latencies[run.model, run.task, run.method, run.device] = result
        else:
            budget = {k: v for k, v in run.budget.__dict__.items() if k != "name"}
            data = (run.identity.get("data"), run.identity.get("model"), run.identity.get("task"))
            place = (
                run.model,
                run.task,
                run.device,
                run.dtype,
                run.head_learning_rate,
                *budget.values(),
                *data,
            )
            by_table.setdefault(place, []).append(result)
    return [_table(group, latencies, reference, baselines) for group in by_table.values()]


def _table(
    results: list[Result], latencies: dict[tuple[str, ...], Result], reference: str, baselines: Sequence[str]
) -> Table:
    by_method: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        by_method.setdefault((result.record.run.method, result.record.run.learning_rate), []).append(result)
    scores, groups, seeds = _scores(by_method)
    metric = next((r.record.metric for r in results if r.record.metric), None)
    metric = metric or {"name": "score", "is_share": True, "higher_is_better": True}
    first = results[0].record.run
    anchor = next((m for m in scores if m[0] == reference), None)

    estimates = {m: stats.estimate(np.stack(list(s.values())), groups) for m, s in scores.items()}
    differences = {
        m: stats.estimate(difference, groups)
        for m, s in scores.items()
        if anchor and m != anchor and (difference := stats.paired(s, scores[anchor])) is not None
    }
    tested = {m: p for m, e in differences.items() if (p := e.p_two_sided()) is not None}
    p_holm = dict(zip(tested, stats.holm(list(tested.values())), strict=True))
    margin = MARGIN if metric["is_share"] else 0.0
    marks = dict(
        zip(
            scores,
            stats.best_set_marks(list(scores.values()), groups, metric["higher_is_better"], margin),
            strict=True,
        )
    )
    rows = []
    for method, group in by_method.items():
        latency = latencies.get((first.model, first.task, method[0], first.device))
        rows.append(
            _row(
                method,
                method[0] in baselines,
                group,
                estimates.get(method),
                differences.get(method),
                p_holm.get(method),
                marks.get(method, ""),
                latency.record if latency else None,
            )
        )
    rows.sort(key=lambda row: baselines.index(row.method) if row.baseline else -1)
    resolution = [h for e in differences.values() if (h := e.half_width()) is not None and e.seeds > 1]
    return Table(
        model=first.model,
        task=first.task,
        metric=metric["name"],
        is_share=metric["is_share"],
        higher_is_better=metric["higher_is_better"],
        reference=anchor[0] if anchor else None,
        caption=_caption(first.budget, results),
        rows=tuple(rows),
        footnotes=tuple(_footnotes(results, rows, seeds, len(groups), len(set(groups)), resolution)),
        settings={
            "device": first.device,
            "dtype": first.dtype,
            "head_learning_rate": first.head_learning_rate,
            **first.budget.__dict__,
        },
    )


def _scores(
    by_method: dict[tuple[str, float], list[Result]],
) -> tuple[dict[tuple[str, float], stats.BySeed], Any, list[int]]:
    """Per method its scores by seed, over the seeds that it finished; a seedless one stands for all seeds.

    Also the group of each item, and every seed that occurs.
    """
    frames: dict[tuple[str, float], dict[int, pd.DataFrame]] = {}
    for method, results in by_method.items():
        found = {r.record.run.seed: p for r in results if (p := r.predictions()) is not None}
        if found:
            frames[method] = found
    seedless = {method for method in frames if by_method[method][0].seedless}
    seeds = sorted(
        {s for m, f in frames.items() if m not in seedless for s in f}
        or {s for f in frames.values() for s in f}
    )
    scores: dict[tuple[str, float], stats.BySeed] = {}
    for method, found in frames.items():
        if method in seedless:
            found = dict.fromkeys(seeds, next(iter(found.values())))
        scores[method] = {seed: found[seed]["score"].to_numpy(np.float64) for seed in sorted(found)}
    groups = next(
        (frame["group"].to_numpy(str) for f in frames.values() for frame in f.values()), np.array([])
    )
    return scores, groups, seeds


def _row(
    method: tuple[str, float],
    baseline: bool,
    group: list[Result],
    score: stats.Estimate | None,
    difference: stats.Estimate | None,
    p_holm: float | None,
    mark: str,
    latency: Record | None,
) -> Row:
    good = [r.record for r in group if r.record.status == "ok"]
    bad = next((r.record for r in group if r.record.status != "ok"), None)
    row = Row(
        method=method[0],
        baseline=baseline,
        status="ok" if good else (bad.status if bad else "failed"),
        reason=_reason(bad) if bad else None,
        seeds_good=len(good),
        seeds_tried=len(group),
        seedless=group[0].seedless,
        learning_rate=method[1] or None,
        latency=tuple(_latency(cell) for cell in (latency.latency or [])) if latency else (),
    )
    if not good:
        return row
    sections = [(r.parameters or {}, r.memory or {}, r.training or {}) for r in good]
    parameters = sections[0][0]
    peaks = [m.get("train") for _, m, _ in sections]
    score_peaks = [m.get("score") for _, m, _ in sections]
    stepped = [t for _, _, t in sections if t.get("step_s")]
    step_s = np.concatenate([stats.after_warmup(t["step_s"]) for t in stepped]) if stepped else None
    tokens = sum(float(stats.after_warmup(t["tokens"]).sum()) for t in stepped)
    return Row(
        **{
            **row.__dict__,
            "score": score,
            "difference": difference,
            "p_holm": p_holm,
            "mark": mark,
            "quality": {
                n: statistics.fmean((r.quality or {})[n] for r in good) for n in (good[0].quality or {})
            },
            "adapter_parameters": parameters.get("adapter"),
            "head_parameters": parameters.get("head"),
            "stored_bytes": parameters.get("stored_bytes"),
            "train_peak_bytes": _median([_headline(p) for p in peaks]),
            "train_peak_kind": next((p["taken_by"] for p in peaks if p), None),
            "score_peak_bytes": _median([_headline(p) for p in score_peaks]),
            "step_ms": float(np.median(step_s)) * 1e3 if step_s is not None else None,
            "step_p95_ms": float(np.quantile(step_s, 0.95)) * 1e3 if step_s is not None else None,
            "tokens_per_s": tokens / float(step_s.sum()) if step_s is not None else None,
            "data_share": _ratio(
                sum(sum(t["data_s"]) for t in stepped),
                sum(sum(t["step_s"]) + sum(t["data_s"]) for t in stepped),
            ),
            "clipped_share": _ratio(
                sum(n > good[0].run.budget.clip_norm for t in stepped for n in t["gradient_norms"]),
                sum(len(t["gradient_norms"]) for t in stepped),
            ),
            "train_s": statistics.fmean(
                t["fit_s"] if "fit_s" in t else sum(t["step_s"]) for _, _, t in sections
            ),
        }
    )


def _reason(record: Record) -> str:
    where = f" at step {record.failed_step}" if record.failed_step else ""
    phase = f" ({record.failed_phase}{where})" if record.failed_phase else ""
    return f"{record.reason}{phase}"


def _headline(peak: dict[str, Any] | None) -> int | None:
    if peak is None:
        return None
    allocated: int | None = peak["peak_allocated_bytes"]
    above: int | None = peak["peak_above_model_bytes"]
    return allocated if allocated is not None else above


def _latency(cell: dict[str, Any]) -> Latency:
    base, unmerged, merged = cell["base_ms"], cell["unmerged_ms"], cell["merged_ms"]
    return Latency(
        batch=cell["batch"],
        length=cell["length"],
        base_ms=statistics.median(base) if base else None,
        unmerged_ms=statistics.median(unmerged) if unmerged else None,
        merged_ms=statistics.median(merged) if merged else None,
        unmerged=stats.slowdown(base, unmerged) if unmerged else None,
        merged=stats.slowdown(base, merged) if merged else None,
        refusal=cell["refusal"],
    )


def _median(values: Sequence[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return int(statistics.median(known)) if known else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _caption(budget: Budget, results: list[Result]) -> str:
    steps: set[int] = {r.record.training["steps"] for r in results if r.record.training}
    length = (
        f"{'/'.join(str(s) for s in sorted(steps))} steps"
        if steps
        else f"{budget.steps or budget.epochs} steps"
    )
    trained = f"{length} of {budget.batch_size} items, at most {budget.max_length} tokens"
    if budget.name == "quick":
        return f"Quick budget ({trained}): costs are meaningful, the ranking is not."
    return f"Budget: {trained}."


def _footnotes(
    results: list[Result], rows: list[Row], seeds: list[int], items: int, groups: int, resolution: list[float]
) -> list[str]:
    notes = []
    if len(seeds) > 1:
        notes.append(
            f"Quality: mean over {len(seeds)} seeds on {items:,} test items in {groups:,} groups; ± is the 95 % interval "
            "over seeds and items together."
        )
        if resolution:
            half = statistics.median(resolution)
            notes.append(f"This table resolves differences of about {half * 100:.1f} points.")
        notes.append(
            "**bold**: best, alone; ≈: among the best and equal to the top within ±1 point; ?: among the best, not shown "
            "equal; p: against the reference, Holm-corrected."
        )
    elif seeds:
        notes.append(
            f"Quality: ONE seed on {items:,} test items; ± is over items alone and says nothing of other seeds. "
            "No method is tested against another."
        )
    if any(row.seedless and row.status == "ok" for row in rows):
        names = ", ".join(row.method for row in rows if row.seedless)
        notes.append(
            f"{names}: departs from the shared budget: solved to convergence on the whole training split, so it does not "
            "depend on the seed and ran once."
        )
    learned = next((row for row in rows if row.seedless and row.score is not None), None)
    if learned and learned.score:
        bar = learned.score.value
        below = [row.method for row in rows if row.score and not row.seedless and row.score.value <= bar]
        if below:
            notes.append(
                f"No better than the converged {learned.method}, so nothing learned beyond the frozen features: "
                + ", ".join(below)
                + "."
            )
    return [*notes, *_settings_notes(results, rows)]


def _settings_notes(results: list[Result], rows: list[Row]) -> list[str]:
    """How the costs were taken, and where."""
    run = results[0].record.run
    rates = ", ".join(f"{row.method} {row.learning_rate:g}" for row in rows if row.learning_rate)
    notes = [
        f"Learning rates, presets unless --lr was given, not tuned here: {rates}; head {run.head_learning_rate:g} for all.",
        "Trained: numbers that train beside the head; stored: the saved file without the head, which every method adds.",
    ]
    kinds = sorted({row.train_peak_kind for row in rows if row.train_peak_kind})
    if kinds == ["cuda allocator"]:
        notes.append("Train peak: highest allocated by torch on the GPU while training, weights included.")
    elif kinds:
        notes.append(
            f"Train peak: resident memory above the loaded model while training ({', '.join(kinds)}); not comparable with "
            "a GPU's allocated memory."
        )
    notes.append("Step: median over steps and seeds, without data and warm-up; tokens/s counts real tokens.")
    if any(row.latency for row in rows):
        base: dict[str, list[float]] = {}
        for cell in (cell for row in rows for cell in row.latency if cell.base_ms is not None):
            base.setdefault(f"{cell.batch}x{cell.length}", []).append(cell.base_ms or 0.0)
        figures = ", ".join(f"{statistics.median(ms):.1f} ms at {name}" for name, ms in base.items())
        notes.append(
            f"Slow-down: one forward pass of batch x length tokens over the base model's ({figures}), float32, median over "
            "interleaved rounds with its 95 % interval; a method that adds no module shows the noise."
        )
    environments = [r.record.environment for r in results if r.record.environment]
    if environments:
        first = environments[0]
        libraries = first["libraries"]
        place = first["gpu"] or first["processor"]
        notes.append(
            f"{run.device} ({place}), {first['threads']} threads, compute {run.dtype}, weights float32; python "
            f"{libraries['python']}, torch {libraries['torch']}, transformers {libraries['transformers']}, peftbench "
            f"{libraries.get('peftbench', '?')}."
        )
        if any(
            (e["machine"], e["gpu"], e["libraries"]) != (first["machine"], first["gpu"], first["libraries"])
            for e in environments
        ):
            notes.append(
                "Rows of this table come from different machines or library versions: compare costs with care."
            )
    return notes
