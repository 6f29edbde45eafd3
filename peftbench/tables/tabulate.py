"""From records to the rows of a comparison. All that a report shows is computed here or in `stats`."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import defaults
from ..parallel import parallel_map
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check, Record
from ..records.results import MethodScores, Result, method_scores, newest_source
from ..records.runs import Run
from ..records.setting import Setting, setting_of
from ..stats.estimate import ALPHA, Estimate, Groups, best_set_marks, estimate, holm, paired_estimates
from ..stats.sequential import SeedSchedule
from . import footnotes
from .costs import Costs, costs_of, curve_end, seconds_to
from .rate_curve import rate_curve
from .table import MARGIN, MethodAtRate, Row, Table


def tables_of(
    results: Iterable[Result], reference: str = defaults.REFERENCE, sequence: SeedSchedule | None = None
) -> list[Table]:
    """The comparison tables of some records."""
    return tabulate(results, reference, defaults.BASELINES, sequence)


OUTCOMES = (FAIL, NOT_TESTED, PASS, NOT_CLAIMED)  # the worst first


def tabulate(
    results: Iterable[Result],
    reference: str,
    baselines: Sequence[str],
    sequence: SeedSchedule | None = None,
) -> list[Table]:
    """One table for each setting among the results.

    Args:
        reference: the method that differences are taken to, where it is among them.
        baselines: the methods that are marked as such and stand last.
        sequence: the rule by which seeds were added; by default what the records say.
    """
    found = list(results)
    current = newest_source(found)
    asked = _Asked(reference, baselines, sequence, stale=len(found) - len(current))
    current = _once(current)
    by_setting: dict[Setting, list[Result]] = {}
    beside = _Beside({}, {})
    for result in current:
        run = result.record.run
        if run.kind in ("latency", "profile"):
            beside.add(result.record)
        else:
            by_setting.setdefault(setting_of(run), []).append(result)
    groups = [
        (setting, group)
        for setting, group in by_setting.items()
        if any(r.record.run.kind == "training" for r in group)
    ]
    tables = parallel_map(lambda i: _table(*groups[i], beside, asked), len(groups), len(current))
    records = [tuple(r.record for r in group if r.record.run.kind == "training") for _, group in groups]
    return [dataclasses.replace(table, records=of) for table, of in zip(tables, records, strict=True)]


@dataclass(frozen=True)
class _Asked:
    """How tables are to be made."""

    reference: str
    baselines: Sequence[str]
    sequence: SeedSchedule | None
    stale: int  # results of an older source


@dataclass(frozen=True)
class _Beside:
    """Runs that measured costs alone: several tables may share them. By method and what they are the same for."""

    latencies: dict[tuple[str, Hashable], list[Record]]
    profiles: dict[tuple[str, Hashable], dict[str, Any]]

    def add(self, record: Record) -> None:
        method, setting = record.run.method, setting_of(record.run)
        if record.run.kind == "latency":
            self.latencies.setdefault((method, setting.forward_pass), []).append(record)
        else:
            self.profiles[method, setting.training_step] = record.profile or {}

    def costs(self, method: str, setting: Setting, good: Sequence[Record]) -> Costs:
        """Of one method, with its good training runs."""
        timed = self.latencies.get((method, setting.forward_pass), [])
        profile = self.profiles.get((method, setting.training_step))
        return costs_of(good, profile, [record for record in timed if record.status == "ok"])


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


NO_METRIC: dict[str, Any] = {
    "name": "score",
    "is_share": True,
    "unit": "%",
    "higher_is_better": True,
}  # no run came to one


def _table(setting: Setting, results: list[Result], beside: _Beside, asked: _Asked) -> Table:
    by_method: dict[MethodAtRate, list[Result]] = {}
    trials: dict[str, list[Result]] = {}
    for result in results:
        run = result.record.run
        if run.kind == "tuning":
            trials.setdefault(run.method, []).append(result)
        else:
            by_method.setdefault((run.method, run.learning_rate), []).append(result)
    metric = next((r.record.metric for r in results if r.record.metric), NO_METRIC)
    seeds = sorted({r.record.run.seed for group in by_method.values() for r in group if _counts(r)})
    schedules = (s for r in results if (s := SeedSchedule.from_json(r.record.sequence)))
    sequence = asked.sequence or next(schedules, None)
    alpha = ALPHA if sequence is None else sequence.alpha(len(seeds))
    scores = _scores(by_method, seeds)
    compared = _Compared(scores, metric, next((m for m in scores if m[0] == asked.reference), None), alpha)
    text = _text_of(max(results, key=lambda r: (r.record.run.forgetting is not None, r.record.started_at)))
    drafts = _rows(by_method, text, asked.baselines)
    curves = {method: rate_curve(tried) for method, tried in trials.items()}
    anchor = compared.anchor
    target = curve_end([] if anchor is None else [r.record for r in by_method[anchor]], metric["name"])
    rows = []
    for method, draft in drafts.items():
        good = [r.record for r in by_method[method] if r.record.status == "ok"]
        figures = compared.quality(method) | {
            "rate_curve": curves.get(method[0]),
            "costs": beside.costs(method[0], setting, good),
            "seconds_to_reference": seconds_to(good, metric["name"], target, metric["higher_is_better"]),
        }
        rows.append(dataclasses.replace(draft, **figures))
    rows.sort(key=lambda row: asked.baselines.index(row.method) if row.baseline else -1)
    table = Table(
        setting=setting,
        metric=metric["name"],
        is_share=metric["is_share"],
        unit=metric["unit"],
        higher_is_better=metric["higher_is_better"],
        reference=anchor[0] if anchor else None,
        caption=_caption(results[0].record.run, results, rows),
        rows=tuple(rows),
        footnotes=(),
        forgetting=text[0] if text else None,
        pairwise={(drafts[a].label, drafts[b].label): paired for (a, b), paired in compared.pairs.items()},
        alpha=alpha,
    )
    said = footnotes.footnotes(
        table, results, compared.items, compared.groups, len(seeds), sequence, asked.stale
    )
    return dataclasses.replace(table, footnotes=tuple(said))


def _scores(
    by_method: dict[MethodAtRate, list[Result]], seeds: Sequence[int]
) -> dict[MethodAtRate, MethodScores]:
    """The scores of those that have any; all share the items of the first."""
    scores: dict[MethodAtRate, MethodScores] = {}
    for method, group in by_method.items():
        found = method_scores(group, seeds, next(iter(scores.values()), None))
        if found is not None:
            scores[method] = found
    return scores


def _rows(
    by_method: dict[MethodAtRate, list[Result]], text: tuple[str, str] | None, baselines: Sequence[str]
) -> dict[MethodAtRate, Row]:
    """Rows before any figure; a method that stands there with two rates has them in its labels."""
    times = Counter(name for name, _ in by_method)
    return {
        (name, rate): _row(
            (name, rate), f"{name} at {rate:g}" if times[name] > 1 else name, name in baselines, group, text
        )
        for (name, rate), group in by_method.items()
    }


def _counts(result: Result) -> bool:
    return result.record.status == "ok" and not result.seedless


class _Compared:
    """The statistics of one table: every method by itself and against the reference."""

    def __init__(
        self,
        scores: dict[MethodAtRate, MethodScores],
        metric: dict[str, Any],
        anchor: MethodAtRate | None,
        alpha: float,
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

    def quality(self, method: MethodAtRate) -> dict[str, Any]:
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

    def _nll_difference(self, method: MethodAtRate) -> Estimate | None:
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
    method: MethodAtRate, label: str, baseline: bool, group: list[Result], text: tuple[str, str] | None
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
