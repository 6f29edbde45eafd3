"""From records to the rows of a comparison. All that a report shows is computed here or in `stats`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import defaults
from ..parallel import parallel_map
from ..records.failed_seeds import failed_seeds
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check, Record, between_0_and_1
from ..records.results import MethodScores, Result, method_scores
from ..records.runs import ADAMW, PAGED_ADAMW_8BIT
from ..stats.estimate import (
    ALPHA,
    Estimate,
    Groups,
    best_set_marks,
    estimate,
    holm,
    mean_estimate,
    paired_estimates,
)
from ..stats.sequential import SeedSchedule
from . import footnotes, retained
from .costs import Costs, costs_of, curve_end, seconds_to
from .selection import Asked, MethodAtRate, Selected, select
from .table import MARGIN, Row, Table


def tables_of(
    results: Iterable[Result],
    reference: str = defaults.REFERENCE,
    rule: SeedSchedule | None = None,
) -> list[Table]:
    """The comparison tables of some records.

    Args:
        reference: the method that differences are taken to, where it is among them; `lora at 0.02` names a rate of it.
        rule: by which seeds were added, beside those that the records name.
    """
    return tabulate(results, reference, defaults.BASELINES, rule)


OUTCOMES = (FAIL, NOT_TESTED, PASS, NOT_CLAIMED)  # the worst first


def tabulate(
    results: Iterable[Result],
    reference: str,
    baselines: Sequence[str],
    rule: SeedSchedule | None = None,
) -> list[Table]:
    """One table for each setting among the results; as `tables_of`, with the baselines' names.

    Args:
        baselines: the methods that are marked as such and stand last.
    """
    selected = select(results, Asked.of(reference), baselines, rule)
    runs = [one.reported for one in selected]
    tables = parallel_map(lambda i: _table(selected[i], baselines), len(selected), sum(map(len, runs)))
    return [
        dataclasses.replace(table, records=tuple(result.record for result in its))
        for table, its in zip(tables, runs, strict=True)
    ]


NO_METRIC: dict[str, Any] = {
    "name": "score",
    "is_share": True,
    "unit": "%",
    "higher_is_better": True,
}  # no run came to one


def _table(chosen: Selected, baselines: Sequence[str]) -> Table:
    results, seeds, setting = chosen.reported, chosen.seeds(), chosen.setting
    metric = next((r.record.metric for r in results if r.record.metric), NO_METRIC)
    alpha = min((rule.alpha(len(seeds)) for rule in chosen.rules), default=ALPHA)
    scores = _scores(chosen.rows, seeds)
    anchor = chosen.reference if chosen.reference in scores else None
    text = _text_of(results)
    rows = _rows(chosen, text, baselines)
    sound = {method for method, row in rows.items() if row.sound}
    failed = {method: row.failed_seeds for method, row in rows.items() if row.failed_seeds}
    further = _further(results, metric["name"])
    compared = _Compared(scores, metric, further, anchor, alpha, sound, failed)
    others = retained.tasks_of(results)
    target = curve_end([] if anchor is None else _good(chosen.rows[anchor]), metric["name"])
    for method, draft in rows.items():
        good = _good(chosen.rows[method])
        figures = compared.quality(method) | {
            "retained": retained.retained_of(chosen.rows[method], others, seeds, alpha),
            "rate_curve": chosen.curves.get(method[0]),
            "costs": _costs_of(chosen, method),
            "seconds_to_reference": seconds_to(good, metric["name"], target, metric["higher_is_better"]),
        }
        rows[method] = dataclasses.replace(draft, **figures)
    table = Table(
        setting=setting,
        metric=metric["name"],
        is_share=metric["is_share"],
        unit=metric["unit"],
        higher_is_better=metric["higher_is_better"],
        reference=None if anchor is None else rows[anchor].label,
        caption=_caption(chosen, list(rows.values())),
        rows=tuple(rows.values()),
        footnotes=(),
        further=further,
        forgetting=None if text is None else text[0],
        retained=others,
        pairwise={(rows[a].label, rows[b].label): paired for (a, b), paired in compared.pairs.items()},
        alpha=alpha,
    )
    said = footnotes.footnotes(table, chosen, compared.items, compared.groups)
    return dataclasses.replace(table, footnotes=tuple(said))


def _further(results: Sequence[Result], primary: str) -> tuple[Mapping[str, Any], ...]:
    """The metrics that have a column beside the primary one."""
    told = next((r.record.metrics for r in results if r.record.metrics), [])
    return tuple(facts for facts in told if facts.get("has_column") and facts["name"] != primary)


def _good(group: Iterable[Result]) -> list[Record]:
    return [result.record for result in group if result.record.status == "ok"]


def _costs_of(chosen: Selected, method: MethodAtRate) -> Costs:
    timed = [record for record in chosen.latencies.get(method[0], ()) if record.status == "ok"]
    alone = [record for record in chosen.cost_runs.get(method[0], ()) if record.status == "ok"]
    return costs_of(_good(chosen.rows[method]), alone, timed)


def _scores(
    by_method: Mapping[MethodAtRate, Sequence[Result]], seeds: Sequence[int]
) -> dict[MethodAtRate, MethodScores]:
    """The scores of those that have any; all share the items of the first."""
    scores: dict[MethodAtRate, MethodScores] = {}
    for method, group in by_method.items():
        found = method_scores(group, seeds, next(iter(scores.values()), None))
        if found is not None:
            scores[method] = found
    return scores


def _rows(
    chosen: Selected, text: tuple[str, str] | None, baselines: Sequence[str]
) -> dict[MethodAtRate, Row]:
    """Rows before any figure."""
    return {
        row: _row(row, chosen.label(row), row[0] in baselines, group, text)
        for row, group in chosen.rows.items()
    }


class _Compared:
    """The statistics of one table: every method by itself and against the reference."""

    def __init__(
        self,
        scores: dict[MethodAtRate, MethodScores],
        metric: dict[str, Any],
        further: Sequence[Mapping[str, Any]],
        anchor: MethodAtRate | None,
        alpha: float,
        sound: Collection[MethodAtRate],
        failed: Mapping[MethodAtRate, Collection[int]],
    ) -> None:
        """Of rows that fail a check or have `failed` seeds, which are not `sound`, none is marked or stands in the way of another's mark.

        A difference that a failed seed is in has no p, either: it is of two kinds of seeds, and three do not tell how often each comes.
        """
        self.scores, self.anchor, self.alpha, self.failed = scores, anchor, alpha, failed
        self.name: str = metric["name"]
        self.share = between_0_and_1(metric)
        self.shares = {facts["name"] for facts in (metric, *further) if between_0_and_1(facts)}
        of_primary = {m: s.figures[self.name] for m, s in scores.items() if self.name in s.figures}
        nothing = Groups(np.zeros(0, np.int64), 0)
        primary = next((s.groups[self.name] for m, s in scores.items() if m in of_primary), nothing)
        self.items = next((p.shape[1] for s in scores.values() for p in [s.figures["nll"].parts]), 0)
        self.groups = next((s.groups["nll"] for s in scores.values()), nothing)
        pairs = paired_estimates(list(of_primary.values()), primary, alpha)
        names = list(of_primary)
        self.pairs = {(names[one], names[other]): paired for (one, other), paired in pairs.items()}
        self.differences = {one: d for (one, other), d in self.pairs.items() if other == anchor}
        judged = {m: d for m, d in self.differences.items() if not ({m, anchor} & failed.keys())}
        tested = {m: p for m, d in judged.items() if (p := d.p_two_sided()) is not None}
        # A look of a sequence may spend `alpha` only; scaled so that a reader compares with .05 as ever.
        corrected = [min(1.0, p * ALPHA / alpha) for p in holm(list(tested.values()))]
        self.p_holm = dict(zip(tested, corrected, strict=True))
        margin = MARGIN if metric["is_share"] else 0.0
        marked = [name for name in names if name in sound]
        places = {names.index(name): place for place, name in enumerate(marked)}
        between = {
            (places[one], places[other]): paired
            for (one, other), paired in pairs.items()
            if one in places and other in places
        }
        marks = best_set_marks(
            [of_primary[name] for name in marked], between, metric["higher_is_better"], margin, alpha
        )
        self.marks = dict(zip(marked, marks, strict=True))

    def quality(self, method: MethodAtRate) -> dict[str, Any]:
        """The fields of a row that tell of quality."""
        scores = self.scores.get(method)
        if scores is None:
            return {}
        estimates = {
            name: estimate(figure, scores.groups[name], self.alpha, name in self.shares)
            for name, figure in scores.figures.items()
        }
        return {
            "score": estimates.get(self.name),
            "score_of_learned": self._of_learned(method),
            "difference": self.differences.get(method),
            "p_holm": self.p_holm.get(method),
            "mark": self.marks.get(method, ""),
            "quality": estimates,
            "nll_difference": self._nll_difference(method),
        }

    def _of_learned(self, method: MethodAtRate) -> Estimate | None:
        """Its score over the seeds that did not fail, where some did."""
        scores = self.scores[method]
        figure = scores.figures.get(self.name) if method in self.failed else None
        learned = None if figure is None else figure.without(self.failed[method])
        return (
            None if learned is None else estimate(learned, scores.groups[self.name], self.alpha, self.share)
        )

    def _nll_difference(self, method: MethodAtRate) -> Estimate | None:
        if self.anchor is None or method == self.anchor:
            return None
        one, other = self.scores[method], self.scores[self.anchor]
        if "nll" not in one.figures or "nll" not in other.figures:
            return None
        difference = one.figures["nll"].minus(other.figures["nll"])
        return None if difference is None else estimate(difference, one.groups["nll"], self.alpha)


def _text_of(results: Iterable[Result]) -> tuple[str, str] | None:
    """The text on which it was looked what is forgotten, and its hash: the one of most runs."""
    texts = Counter(text for result in results if (text := _text(result)) is not None)
    return max(texts, key=lambda text: (texts[text], text), default=None)


def _text(result: Result) -> tuple[str, str] | None:
    run = result.record.run
    return None if run.forgetting is None else (run.forgetting, run.identity.get("forgetting", ""))


def _row(
    method: MethodAtRate, label: str, baseline: bool, group: Sequence[Result], text: tuple[str, str] | None
) -> Row:
    """What a row says before any figure."""
    good = _good(group)
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
        solved=any("fit_items" in (record.training or {}) for record in good),
        failed_seeds=failed_seeds(good),
        checks=_checks(good),
        departures=_departures(good),
        forgetting=_forgetting(_good(r for r in group if _text(r) == text)),
    )


def _forgetting(good: list[Record]) -> Estimate | None:
    """The mean over seeds with a t over them, on one and the same text."""
    found = [r.forgetting["after_nll"] - r.forgetting["before_nll"] for r in good if r.forgetting]
    if not found:
        return None
    return mean_estimate(found)


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


def _departures(good: list[Record]) -> tuple[str, ...]:
    """Of all seeds, each once; runs of before did not look."""
    training = [record.training or {} for record in good]
    trains = any((record.parameters or {}).get(what) for record in good for what in ("adapter", "head"))
    solved = [_solved(t["fit_items"], t["train_items"]) for t in training if trains and t.get("fit_items")]
    return tuple(dict.fromkeys([*solved, *(said for t in training for said in t.get("departures", ()))]))


def _solved(items: int, there: int) -> str:
    if items == there:
        return f"solved to convergence, on the whole training split ({there:,} items)"
    return f"solved to convergence, on the {items:,} items that the steps of its seed draw (of {there:,})"


def _reason(record: Record) -> str:
    where = f" at step {record.failed_step}" if record.failed_step else ""
    phase = f" ({record.failed_phase}{where})" if record.failed_phase else ""
    return f"{record.reason}{phase}"


def _caption(chosen: Selected, rows: list[Row]) -> str:
    return _budget_said(chosen, rows) + _reference_said(chosen, rows) + _age_said(chosen)


def _reference_said(chosen: Selected, rows: list[Row]) -> str:
    if chosen.reference is None or not any(row.difference for row in rows):
        return ""
    method, rate = chosen.reference
    why = f", because {chosen.instead_of} has no finished run" if chosen.instead_of else ""
    return f" Differences are to {method}" + (f" at learning rate {rate:g}" if rate else "") + f"{why}."


def _age_said(chosen: Selected) -> str:
    """Of runs whose key this program would make otherwise: it would do them again."""
    records = [result.record for result in chosen.reported]
    records += [record for its in chosen.cost_runs.values() for record in its]
    # A process that took several methods in turns is one run.
    timed = {(r.started_at, r.run.seed): r for its in chosen.latencies.values() for r in its}
    records += timed.values()
    older = sum(record.is_older for record in records)
    if not older:
        return ""
    return (
        f" {older} of the {len(records)} runs are of ANOTHER VERSION of the program, which computed some results differently: the "
        "same command runs them again."
    )


def _scored_part(scoring: Mapping[str, Any]) -> str:
    """Which part of the test split was scored; empty where it was all of it."""
    items, rows = scoring["items"], scoring.get("rows", scoring["items"])
    if scoring.get("of_items", rows) <= rows:
        return ""
    what = "items" if items == rows else "rows"
    return f", scored on {rows:,} of {scoring['of_items']:,} test {what}"


def _budget_said(chosen: Selected, rows: list[Row]) -> str:
    setting, budget = chosen.setting, chosen.setting.budget
    trained = [r.record.training for r in chosen.reported if r.record.training]
    steps = sorted({training["steps"] for training in trained})
    length = f"{'/'.join(map(str, steps))} steps" if steps else f"{budget.steps or budget.epochs} steps"
    there = min((training["train_items"] for training in trained if "train_items" in training), default=None)
    items = f"{budget.batch_size} items"
    if there is not None and there < budget.batch_size:
        items = f"{there} items ({budget.batch_size} asked for, {there} there)"
    said = f"{length} of {items}, at most {budget.max_length} tokens"
    if budget.train_items is not None:
        said += f", from {budget.train_items:,} training items"
    scored = [r.record.scoring for r in chosen.reported if r.record.scoring and r.record.status == "ok"]
    said += next(filter(None, map(_scored_part, scored)), "")
    parts = min(budget.accumulate, budget.batch_size if there is None else min(there, budget.batch_size))
    if parts > 1:  # of one item at least
        said += f", each step in {parts} parts"
    if setting.attention is not None:
        said += f", {setting.attention} attention"
    if setting.checkpointing:
        said += ", activations computed again for the backward pass"
    if setting.optimizer != ADAMW:
        said += f", optimizer {setting.optimizer}"
    if setting.optimizer == PAGED_ADAMW_8BIT:
        said += ", whose pages train peak does not count"
    if setting.ranks > 1:
        said += f", {setting.in_ranks}"
    if setting.packing:
        said += ", the texts of a batch packed into few rows"
    if budget.name == "quick":
        return f"Quick budget ({said}): costs are meaningful, the ranking is not."
    rated = [row for row in rows if row.learning_rate]
    tuned = "; learning rates tuned on validation" if rated and all(row.tuned for row in rated) else ""
    return f"{'Standard budget' if budget.name == 'standard' else 'Budget'}: {said}{tuned}."
