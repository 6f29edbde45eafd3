"""Two sets of runs beside each other: what the figures of each pair of rows differ by (see `matching`), and what else differs.

Quality is compared by seed and item as everywhere (see `stats`), costs by the logarithm of their ratio over the seeds, times of
inference over the processes that took them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..objectives.item_metrics import ITEM_METRICS
from ..objectives.text_metrics import TEXT_METRICS
from ..records.differences import differing, differing_software
from ..records.failed_seeds import failed_seeds
from ..records.record import FAIL, Record
from ..records.results import MethodScores, Result, alike, method_scores
from ..records.setting import PART, SOURCES, comparable_in
from ..stats.estimate import Estimate, difference_of, estimate, holm, mean_estimate
from . import retained
from .costs import measured_in, over_base
from .matching import Side, described_side, matching, said_of, sides_of
from .quantities import COMPARED, SCORE, SLOWDOWN, Measure, apart_from, measures_in
from .titles import told_apart

# What a comparison is refused for: with one of these changed, a difference is no news of the methods or the code.
PLACES = ("gpu", "driver", "cuda", "processor", "threads", "jobs")
LATENCY = "latency"  # milliseconds of a forward pass, by cell
SIDES = ("in A", "in B")


@dataclass(frozen=True)
class PairedFigure:
    """One figure in A and in B."""

    name: str  # as `--fail-on` knows it
    label: str
    a: float
    b: float
    change: Estimate  # B minus A; of the logarithms where `relative`
    relative: bool
    over: str = "seeds"  # what its uncertainty comes from
    points: float = 1.0  # what a change is multiplied by to be shown: 100 for a share
    seedless: bool = False  # no seed has a part in it, so that one run tells all


@dataclass(frozen=True)
class Pair:
    """One method on one model and task, in A and in B."""

    method: str
    model: str
    task: str
    train_items: int | None
    seeds: int  # that both have
    seeds_a: int
    seeds_b: int
    metric: str
    unit: str
    figures: tuple[PairedFigure, ...]
    p_holm: float | None = None  # of the primary metric, over all pairs
    problem: str | None = None  # a run that failed in B alone, or a claim that does not hold there
    lacking: tuple[str, ...] = ()  # figures that one of the two has
    lost: tuple[int, ...] = ()  # seeds that A alone has
    apart: str = ""  # what tells it from another pair of the same method, model and task

    @property
    def label(self) -> str:
        return said_of((self.method, self.model, self.task, self.train_items), self.apart)

    @property
    def name(self) -> str:
        """What its row is called among the pairs of its task."""
        return f"{self.method}, {self.apart}" if self.apart else self.method

    def named(self, name: str) -> list[PairedFigure]:
        """Its figures of that name."""
        return [figure for figure in self.figures if figure.name == (self.metric if name == SCORE else name)]


@dataclass(frozen=True)
class Paired:
    """All pairs, and what else there is to know."""

    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()  # why they should not be compared
    also: tuple[str, ...] = ()  # other differences, which may be what the comparison is for

    @property
    def gone(self) -> tuple[str, ...]:
        """What A alone has: rows, and seeds of rows that both have."""
        seeds = (
            f"{pair.label}, seed{'s' if len(pair.lost) > 1 else ''} {', '.join(map(str, pair.lost))}"
            for pair in self.pairs
            if pair.lost
        )
        return (*self.only_a, *seeds)


def pair(a: Sequence[Result], b: Sequence[Result]) -> Paired:
    """Pair two sets of results."""
    results = alike([*a, *b])
    matched, left_a, left_b = matching(sides_of(results[: len(a)]), sides_of(results[len(a) :]))
    named = [*(one for one, _ in matched), *left_a, *left_b]
    apart = told_apart([(said_of(side.place), described_side(side)) for side in named])
    pairs = [replace(_pair(*both), apart=said) for both, said in zip(matched, apart, strict=False)]
    # Of two kinds of seeds, three do not tell how often each comes: no p.
    judged = [i for i, sides in enumerate(matched) if not any(map(_failed, sides))]
    tested = [(i, p) for i in judged if (p := _p_of(pairs[i])) is not None]
    adjusted = holm([p for _, p in tested])
    for (i, _), p_holm in zip(tested, adjusted, strict=True):
        pairs[i] = replace(pairs[i], p_holm=p_holm)
    unlike: dict[str, None] = {}
    also: dict[str, None] = {}
    for one, other in matched:
        for first, second in _both(one, other):
            unlike |= dict.fromkeys(_unlike(first, second, _places(one, other)))
            also |= dict.fromkeys(_also(first, second))
    alone = [said_of(side.place, said) for side, said in zip(named, apart, strict=True)][len(matched) :]
    only_a, only_b = alone[: len(left_a)], alone[len(left_a) :]
    return Paired(tuple(pairs), tuple(only_a), tuple(only_b), tuple(unlike), tuple(also))


def _both(a: Side, b: Side) -> list[tuple[Record, Record]]:
    """The records that are compared with each other. One that was killed or refused does not know where it ran."""
    seeds = [seed for seed in a.training if seed in b.training]
    pairs = [(a.training[seed].record, b.training[seed].record) for seed in seeds]
    if not pairs:
        pairs = [(next(iter(a.training.values())).record, next(iter(b.training.values())).record)]
    pairs += [*zip(a.alone, b.alone, strict=False), *zip(a.latency, b.latency, strict=False)]
    return [(one, other) for one, other in pairs if one.environment and other.environment]


def _p_of(one: Pair) -> float | None:
    figures = one.named(SCORE)
    return figures[0].change.p_two_sided() if figures else None


def _pair(a: Side, b: Side) -> Pair:
    method, model, task, items = a.place
    good_a, good_b = a.good, b.good
    seeds = [seed for seed in sorted(good_a) if seed in good_b]
    metric = next((r.record.metric for r in (*good_b.values(), *good_a.values()) if r.record.metric), {})
    figures: list[PairedFigure] = []
    lacking: list[str] = []
    if seeds:
        both_good = [good_a[s] for s in seeds], [good_b[s] for s in seeds]
        for found, missing in (
            _qualities(*both_good, metric),
            _retained(*both_good),
            _costs(*both_good, a.alone, b.alone),
        ):
            figures += found
            lacking += missing
    figures += _latencies(method, a.latency, b.latency)
    if _cells(a.latency).keys() != _cells(b.latency).keys():
        lacking += [LATENCY, SLOWDOWN.name]
    return Pair(
        method=method,
        model=model,
        task=task,
        train_items=items,
        seeds=len(seeds),
        seeds_a=len(good_a),
        seeds_b=len(good_b),
        metric=_named(metric.get("name", SCORE), metric),
        unit=metric.get("unit", ""),
        figures=tuple(figures),
        problem=_problem(a, b),
        lacking=tuple(lacking),
        lost=tuple(seed for seed in sorted(good_a) if seed not in b.training),
    )


def _failed(side: Side) -> dict[int, str]:
    """The seeds of one set that learned nothing."""
    return failed_seeds(result.record for result in side.good.values())


def _problem(a: Side, b: Side) -> str | None:
    """What is good in A alone, or what B's method claims and does not hold."""
    lost = [r.record for seed, r in sorted(b.training.items()) if r.record.status != "ok" and seed in a.good]
    if lost:
        return f"{len(lost)} of {len(b.training)} runs of B {lost[0].status}: {lost[0].reason}"
    before, now = _failed(a), _failed(b)
    if len(now) > len(before):
        why = next(why for seed, why in now.items() if seed not in before)
        return f"{len(now)} of {len(b.good)} seeds of B learned nothing, {len(before)} of {len(a.good)} of A: {why}"
    failed = [c for r in b.good.values() for c in r.record.checks or () if c["outcome"] == FAIL]
    return f"in B its check {failed[0]['name']!r} fails: {failed[0]['detail']}" if failed else None


def _qualities(
    a: list[Result], b: list[Result], metric: Mapping[str, Any]
) -> tuple[list[PairedFigure], list[str]]:
    """The primary metric first, then every other one, then the likelihood; and the names that one side lacks."""
    one, other = (method_scores(results, [r.record.run.seed for r in results]) for results in (a, b))
    if one is None or other is None:
        return [], []
    primary = metric.get("name")
    names = sorted(one.figures, key=lambda name: (name != primary, name == "nll"))
    seedless = all(result.seedless for result in (*a, *b))
    same_items = all(_data_of(x) == _data_of(y) for x, y in zip(a, b, strict=True))
    found = [
        PairedFigure(
            _named(name, metric),
            _named(name, metric),
            float(one.figures[name].values.mean()),
            float(other.figures[name].values.mean()),
            _difference(one, other, name, same_items),
            relative=False,
            points=100.0 if is_share(name, b[0].record) else 1.0,
            seedless=seedless,
        )
        for name in names
        if name in other.figures
    ]
    return found, sorted(_named(name, metric) for name in set(one.figures) ^ set(other.figures))


def _retained(a: list[Result], b: list[Result]) -> tuple[list[PairedFigure], list[str]]:
    """The scores on other tasks after training; and the names that one side lacks."""
    seedless = all(result.seedless for result in (*a, *b))
    told, lacking = retained.after_in(a, b)
    found = [
        PairedFigure(task.name, f"{task.spec}: {task.shown_metric}", x, y, change, relative=False, points=task.percent, seedless=seedless)
        for task, x, y, change in told
    ]  # fmt: skip
    return found, lacking


def _named(name: str, metric: Mapping[str, Any]) -> str:
    """What a metric is called beside the costs, and beside the word for the primary one."""
    costs = (LATENCY, SLOWDOWN.name, *(measure.name for measure in measures_in(COMPARED)))
    return apart_from(name, costs if name == metric.get("name") else (*costs, SCORE))


def is_share(name: str, record: Record | None = None) -> bool:
    """Whether a metric of a run is shown times 100; `accuracy (matched)` is accuracy's part.

    Runs before runs said so are known by the general metrics: a variant's name begins with theirs, as `rouge_l_e2e` does.
    """
    base = name.partition(" (")[0]
    for facts in () if record is None else (record.metric, *(record.metrics or ())):
        if facts is not None and facts["name"] == base:
            return bool(facts["is_share"])
    general = {**ITEM_METRICS, **TEXT_METRICS}
    kin = [known for known in general if base == known or base.startswith(f"{known}_")]
    return bool(kin) and general[max(kin, key=len)].is_share


def _data_of(result: Result) -> list[Any]:
    """What tells whether two runs scored the same items."""
    record = result.record
    return [*(record.run.identity.get(name) for name in ("task", "data")), record.part_scored]


def _difference(a: MethodScores, b: MethodScores, name: str, same_items: bool) -> Estimate:
    """Paired by seed and item; by neither where the items are others, which `--force` allows."""
    same = same_items and np.array_equal(a.groups[name].index, b.groups[name].index)
    if same and a.figures[name].parts.shape[1] == b.figures[name].parts.shape[1]:
        paired = b.figures[name].minus(a.figures[name])
        if paired is not None:
            return estimate(paired, a.groups[name])
    return difference_of(estimate(b.figures[name], b.groups[name]), estimate(a.figures[name], a.groups[name]))  # fmt: skip


def _costs(
    a: list[Result], b: list[Result], alone_a: list[Record], alone_b: list[Record]
) -> tuple[list[PairedFigure], list[str]]:
    """What is measured by cost run, or by seed where there are none, then what is counted; and the names that one side lacks."""
    found: list[PairedFigure] = []
    lacking = []
    seedless = all(result.seedless for result in (*a, *b))
    good_a, good_b = [one.record for one in a], [one.record for one in b]
    timed_a: Sequence[Record] = measured_in(good_a, alone_a)
    timed_b: Sequence[Record] = measured_in(good_b, alone_b)
    if (timed_a is good_a) != (timed_b is good_b):  # alone and beside others is not the same
        timed_a, timed_b = good_a, good_b
    in_runs = timed_a is not good_a
    for measure in reversed(measures_in(COMPARED)):
        runs = (good_a, good_b) if measure.exact else (timed_a, timed_b)
        both = [(measure.of_runs([one]), measure.of_runs([other])) for one, other in zip(*runs, strict=False)]
        known = [(x, y) for x, y in both if x is not None and y is not None]
        if measure.exact and len(set(known)) == 1:
            found.append(_counted(measure, *known[0], len(a)))
        else:  # of nothing there is no ratio
            known = [(x, y) for x, y in known if bool(x) == bool(y)]
            over = "cost runs" if in_runs and not measure.exact else "seeds"
            if known:
                found.append(_sampled(measure, known, seedless and over == "seeds", over))
        if len(known) < sum(x is not None or y is not None for x, y in both):
            lacking.append(measure.name)
    return found, lacking


def _sampled(
    measure: Measure, both: Sequence[tuple[float, float]], seedless: bool, over: str
) -> PairedFigure:
    """It has a value of its own in each seed, or cost run: (of A, of B)."""
    change = mean_estimate([_log_ratio(x, y) for x, y in both])
    a, b = (measure.shown(float(middle)) for middle in np.median(both, axis=0))
    return PairedFigure(
        measure.name, measure.header, a, b, change, relative=True, seedless=seedless, over=over
    )


def _counted(measure: Measure, a: float, b: float, seeds: int) -> PairedFigure:
    """It is the same in every seed, so one run tells it exactly."""
    change = Estimate(_log_ratio(a, b), (), seeds)
    shown = measure.shown(a), measure.shown(b)
    return PairedFigure(measure.name, measure.header, *shown, change, relative=True, seedless=True)


def _log_ratio(a: float, b: float) -> float:
    """What is nothing in both has not changed."""
    if a == b:
        return 0.0
    return math.log(b / a) if a and b else math.copysign(math.inf, b - a)


def _latencies(method: str, a: list[Record], b: list[Record]) -> list[PairedFigure]:
    """By cell of the grid: milliseconds of the unmerged method, and its slow-down over the base of its own process."""
    cells_a, cells_b = _cells(a), _cells(b)
    found = []
    for place in (place for place in cells_a if place in cells_b):
        where = f"{place[0]}x{place[1]}"
        one, other = _log_ms(cells_a[place], method), _log_ms(cells_b[place], method)
        if len(one) and len(other):
            ms = math.exp(one.mean()), math.exp(other.mean())
            change = difference_of(mean_estimate(other), mean_estimate(one))
            found.append(PairedFigure(LATENCY, f"{where} ms", *ms, change, relative=True, over="processes"))
        slow_a, slow_b = over_base(cells_a[place], method), over_base(cells_b[place], method)
        if slow_a is not None and slow_b is not None:
            change = difference_of(slow_b.estimate, slow_a.estimate)
            ratios = math.exp(slow_a.log_ratio), math.exp(slow_b.log_ratio)
            label = f"{where} over base"
            found.append(PairedFigure(SLOWDOWN.name, label, *ratios, change, relative=True, over="processes"))
    return found


def _log_ms(cells: list[dict[str, Any]], method: str) -> npt.NDArray[np.float64]:
    """By process, of the median round."""
    return np.log([np.median(cell["ms"][method]) for cell in cells if cell["ms"].get(method)])


def _cells(records: list[Record]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    cells: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for record in records:
        for cell in record.latency or []:
            if not cell["refusal"]:
                cells.setdefault((cell["batch"], cell["length"]), []).append(cell)
    return cells


def _places(a: Side, b: Side) -> list[str]:
    """What of their places must be alike: how many runs there were at once, where steps were timed beside others."""
    steps = [
        record
        for side in (a, b)
        for record in measured_in([result.record for result in side.good.values()], side.alone)
        if record.run.kind != "profile" and (record.training or {}).get("step_s")
    ]
    return [name for name in PLACES if name != "jobs" or steps]


def _unlike(a: Record, b: Record, places: Sequence[str]) -> list[str]:
    """What makes a difference between them no news of the methods."""
    found = differing(a.environment, b.environment, places, SIDES)
    one, other = comparable_in(a.run), comparable_in(b.run)
    sources = [said for said in SOURCES.values() if one.get(said) != other.get(said)]
    sources += [PART] if a.part_scored != b.part_scored else []
    return (
        found + differing(one, other, (name for name in one if name not in SOURCES.values()), SIDES) + sources
    )


def _also(a: Record, b: Record) -> list[str]:
    """What is another in B, and may be the reason for the comparison."""
    found = differing_software(a.environment, b.environment, SIDES)
    if a.run.kind == "training" and a.run.learning_rate != b.run.learning_rate:
        found.append(f"learning rate of {a.run.method} {a.run.learning_rate:g} in A, {b.run.learning_rate:g} in B")  # fmt: skip
    if a.run.identity.get("method") != b.run.identity.get("method"):
        found.append(f"the source of {a.run.method}")
    return found
