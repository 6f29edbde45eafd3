"""From records to the rows of a comparison. All that a report shows is computed here or in `stats`."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import defaults
from ..parallel import parallel_map
from ..records.record import Record
from ..records.results import MethodScores, Result, method_scores, newest_source
from ..records.runs import Run
from ..stats.estimate import ALPHA, Estimate, Groups, best_set_marks, estimate, holm, paired_estimates
from ..stats.sequential import SeedSchedule
from . import footnotes
from .costs import costs_of, curve_end, seconds_to
from .rate_curve import rate_curve
from .table import MARGIN, Check, Method, Row, Table


def tables_of(
    results: Iterable[Result], reference: str = defaults.REFERENCE, sequence: SeedSchedule | None = None
) -> list[Table]:
    """The comparison tables of some records."""
    return tabulate(results, reference, defaults.BASELINES, sequence)


OUTCOMES = ("fail", "not tested", "pass", "not claimed")  # the worst first


def tabulate(
    results: Iterable[Result],
    reference: str,
    baselines: Sequence[str],
    sequence: SeedSchedule | None = None,
) -> list[Table]:
    """One table for each model, task, budget, device and data type among the results.

    Args:
        reference: the method that differences are taken to, where it is among them.
        baselines: the methods that are marked as such and stand last.
        sequence: the rule by which seeds were added; by default what the records say.
    """
    found = list(results)
    current = newest_source(found)
    stale = len(found) - len(current)
    current = _once(current)
    by_table: dict[tuple[Any, ...], list[Result]] = {}
    latencies: dict[tuple[Any, ...], list[Record]] = {}
    profiles: dict[tuple[Any, ...], dict[str, Any]] = {}
    for result in current:
        run = result.record.run
        if run.kind == "latency":
            latencies.setdefault(_of_pass(run, run.method), []).append(result.record)
        elif run.kind == "profile":
            profiles[_of_step(run, run.method)] = result.record.profile or {}
        else:
            budget = {k: v for k, v in run.budget.__dict__.items() if k != "name"}
            data = (run.identity.get("data"), run.identity.get("model"), run.identity.get("task"))
            shared = (*_of_step(run, ""), run.head_learning_rate)
            by_table.setdefault((*shared, *budget.values(), *data), []).append(result)
    groups = [group for group in by_table.values() if any(r.record.run.kind == "training" for r in group)]

    def made(i: int) -> Table:
        return _table(groups[i], latencies, profiles, reference, baselines, sequence, stale)

    tables = parallel_map(made, len(groups), len(current))
    records = [tuple(r.record for r in g if r.record.run.kind == "training") for g in groups]
    return [dataclasses.replace(table, records=of) for table, of in zip(tables, records, strict=True)]


def _of_pass(run: Run, method: str) -> tuple[Any, ...]:
    """What a forward pass is the same for."""
    return run.model, run.task, method, run.device, run.attention


def _of_step(run: Run, method: str) -> tuple[Any, ...]:
    """What a training step is the same for."""
    return *_of_pass(run, method), run.dtype, run.checkpointing


def _once(results: list[Result]) -> list[Result]:
    """Each run once: where one was done with and without looking at what it forgets, the one that tells more."""
    kept: dict[str, Result] = {}

    def tells(result: Result) -> tuple[bool, bool, str]:
        record = result.record
        return record.status == "ok", record.run.forgetting is not None, record.started_at

    for result in sorted(results, key=tells):
        run = result.record.run
        kept[result.record.key if run.forgetting is None else run.without_forgetting.key] = result
    chosen = {id(result) for result in kept.values()}
    return [result for result in results if id(result) in chosen]


def _table(
    results: list[Result],
    latencies: dict[tuple[Any, ...], list[Record]],
    profiles: dict[tuple[Any, ...], dict[str, Any]],
    reference: str,
    baselines: Sequence[str],
    sequence: SeedSchedule | None,
    stale: int,
) -> Table:
    by_method: dict[Method, list[Result]] = {}
    trials: dict[str, list[Result]] = {}
    for result in results:
        run = result.record.run
        if run.kind == "tuning":
            trials.setdefault(run.method, []).append(result)
        else:
            by_method.setdefault((run.method, run.learning_rate), []).append(result)
    seeds = sorted({r.record.run.seed for group in by_method.values() for r in group if _counts(r)})
    scores: dict[Method, MethodScores] = {}
    for method, group in by_method.items():
        found = method_scores(group, seeds, next(iter(scores.values()), None))
        if found is not None:
            scores[method] = found
    first = results[0].record.run
    metric = next((r.record.metric for r in results if r.record.metric), None)
    metric = metric or {"name": "score", "is_share": True, "unit": "%", "higher_is_better": True}
    sequence = sequence or next(
        (s for r in results if (s := SeedSchedule.from_json(r.record.sequence))), None
    )
    alpha = ALPHA if sequence is None else sequence.alpha(len(seeds))
    compared = _Compared(scores, metric, next((m for m in scores if m[0] == reference), None), alpha)
    of_anchor = [] if compared.anchor is None else [r.record for r in by_method[compared.anchor]]
    target = curve_end(of_anchor, metric["name"])
    text = _text_of(max(results, key=lambda r: (r.record.run.forgetting is not None, r.record.started_at)))
    curves = {method: rate_curve(tried) for method, tried in trials.items()}
    rows = []
    for method, group in by_method.items():
        latency = latencies.get(_of_pass(first, method[0]), [])
        profile = profiles.get(_of_step(first, method[0]))
        twice = sum(other[0] == method[0] for other in by_method) > 1
        row = _row(
            method,
            f"{method[0]} at {method[1]:g}" if twice else method[0],
            method[0] in baselines,
            group,
            text,
        )
        good = [r.record for r in group if r.record.status == "ok"]
        costs = costs_of(good, profile, [record for record in latency if record.status == "ok"])
        quality = compared.quality(method)
        seconds = seconds_to(good, metric["name"], target, metric["higher_is_better"])
        rows.append(
            Row(
                **{
                    **row.__dict__,
                    **quality,
                    "costs": costs,
                    "rate_curve": curves.get(method[0]),
                    "seconds_to_reference": seconds,
                }
            )
        )
    labels = {method: row.label for method, row in zip(by_method, rows, strict=True)}
    rows.sort(key=lambda row: baselines.index(row.method) if row.baseline else -1)
    table = Table(
        model=first.model,
        task=first.task,
        metric=metric["name"],
        is_share=metric["is_share"],
        unit=metric["unit"],
        higher_is_better=metric["higher_is_better"],
        reference=compared.anchor[0] if compared.anchor else None,
        caption=_caption(first, results, rows),
        rows=tuple(rows),
        footnotes=(),
        settings={
            "device": first.device,
            "dtype": first.dtype,
            "head_learning_rate": first.head_learning_rate,
            "attention": first.attention,
            "checkpointing": first.checkpointing,
            "forgetting": text[0] if text else None,
            **first.budget.__dict__,
        },
        identity=tuple(first.identity.get(name) for name in ("data", "model", "task")),
        pairwise={(labels[one], labels[other]): paired for (one, other), paired in compared.pairs.items()},
        alpha=alpha,
    )
    said = footnotes.footnotes(table, results, compared.items, compared.groups, len(seeds), sequence, stale)
    return Table(**{**table.__dict__, "footnotes": tuple(said)})


def _counts(result: Result) -> bool:
    return result.record.status == "ok" and not result.seedless


class _Compared:
    """The statistics of one table: every method by itself and against the reference."""

    def __init__(
        self, scores: dict[Method, MethodScores], metric: dict[str, Any], anchor: Method | None, alpha: float
    ) -> None:
        self.scores, self.anchor, self.alpha = scores, anchor, alpha
        self.name: str = metric["name"]
        of_primary = {m: s.figures[self.name] for m, s in scores.items() if self.name in s.figures}
        nothing = Groups(np.zeros(0, np.int64), 0)
        primary = next((s.groups[self.name] for m, s in scores.items() if m in of_primary), nothing)
        self.items = next((p.shape[1] for s in scores.values() for p in [s.figures["nll"].parts]), 0)
        self.groups = next((s.groups["nll"].count for s in scores.values()), 0)
        pairs = paired_estimates(list(of_primary.values()), primary, alpha)
        names = list(of_primary)
        self.pairs = {(names[one], names[other]): paired for (one, other), paired in pairs.items()}
        self.differences = {one: d for (one, other), d in self.pairs.items() if other == anchor}
        tested = {m: p for m, d in self.differences.items() if (p := d.p_two_sided()) is not None}
        # A look of a sequence may spend `alpha` only; scaled so that a reader compares with .05 as ever.
        corrected = [min(1.0, p * ALPHA / alpha) for p in holm(list(tested.values()))]
        self.p_holm = dict(zip(tested, corrected, strict=True))
        margin = MARGIN if metric["is_share"] else 0.0
        marks = best_set_marks(list(of_primary.values()), pairs, metric["higher_is_better"], margin, alpha)
        self.marks = dict(zip(of_primary, marks, strict=True))

    def quality(self, method: Method) -> dict[str, Any]:
        """The fields of a row that tell of quality."""
        scores = self.scores.get(method)
        if scores is None:
            return {}
        estimates = {
            name: estimate(figure, scores.groups[name], self.alpha) for name, figure in scores.figures.items()
        }
        return {
            "score": estimates.get(self.name),
            "difference": self.differences.get(method),
            "p_holm": self.p_holm.get(method),
            "mark": self.marks.get(method, ""),
            "quality": estimates,
            "nll_difference": self._nll_difference(method),
        }

    def _nll_difference(self, method: Method) -> Estimate | None:
        if self.anchor is None or method == self.anchor:
            return None
        one, other = self.scores[method], self.scores[self.anchor]
        if "nll" not in one.figures or "nll" not in other.figures:
            return None
        difference = one.figures["nll"].minus(other.figures["nll"])
        return None if difference is None else estimate(difference, one.groups["nll"], self.alpha)


def _text_of(result: Result) -> tuple[str, str] | None:
    """The text on which it was looked what is forgotten, and its hash."""
    run = result.record.run
    return None if run.forgetting is None else (run.forgetting, run.identity.get("forgetting", ""))


def _row(
    method: Method, label: str, baseline: bool, group: list[Result], text: tuple[str, str] | None
) -> Row:
    """What a row says before any figure."""
    good = [r.record for r in group if r.record.status == "ok"]
    bad = next((r.record for r in group if r.record.status != "ok"), None)
    return Row(
        method=method[0],
        label=label,
        baseline=baseline,
        status="ok" if good else (bad.status if bad else "failed"),
        reason=_reason(bad) if bad else None,
        seeds_good=len(good),
        seeds_tried=len(group),
        seedless=group[0].seedless,
        learning_rate=method[1] or None,
        checks=_checks(good),
        forgetting=_forgetting([r.record for r in group if r.record.status == "ok" and _text_of(r) == text]),
    )


def _forgetting(good: list[Record]) -> Estimate | None:
    """The mean over seeds with a t over them, on one and the same text."""
    found = [r.forgetting["after_nll"] - r.forgetting["before_nll"] for r in good if r.forgetting]
    if not found:
        return None
    if len(found) < 2:
        return Estimate(found[0], None, None, 1)
    return Estimate(
        statistics.fmean(found), statistics.variance(found) / len(found), len(found) - 1.0, len(found)
    )


def _checks(good: list[Record]) -> tuple[Check, ...]:
    """The worst outcome of each check over the seeds, in the order in which they were made."""
    worst: dict[str, Check] = {}
    for record in good:
        for found in record.checks or ():
            check = Check(**found)
            known = worst.get(check.name)
            if known is None or OUTCOMES.index(check.outcome) < OUTCOMES.index(known.outcome):
                worst[check.name] = check
    return tuple(worst.values())


def _reason(record: Record) -> str:
    where = f" at step {record.failed_step}" if record.failed_step else ""
    phase = f" ({record.failed_phase}{where})" if record.failed_phase else ""
    return f"{record.reason}{phase}"


def _caption(run: Run, results: list[Result], rows: list[Row]) -> str:
    budget = run.budget
    steps: set[int] = {r.record.training["steps"] for r in results if r.record.training}
    length = (
        f"{'/'.join(str(s) for s in sorted(steps))} steps"
        if steps
        else f"{budget.steps or budget.epochs} steps"
    )
    trained = f"{length} of {budget.batch_size} items, at most {budget.max_length} tokens"
    if budget.train_items is not None:
        trained += f", from {budget.train_items:,} training items"
    if run.attention is not None:
        trained += f", {run.attention} attention"
    if run.checkpointing:
        trained += ", activations computed again for the backward pass"
    if budget.name == "quick":
        return f"Quick budget ({trained}): costs are meaningful, the ranking is not."
    rated = [row for row in rows if row.learning_rate]
    tuned = "; learning rates tuned on validation" if rated and all(row.tuned for row in rated) else ""
    return f"{'Standard budget' if budget.name == 'standard' else 'Budget'}: {trained}{tuned}."
