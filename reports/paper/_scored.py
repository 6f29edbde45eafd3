"""Training runs of several cells of an experiment, each method or rate or size of one, and what their scores say of each other."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peftbench.comparison.compare import compare
from peftbench.comparison.request import Comparison
from peftbench.comparison.tuning import EXTENSIONS
from peftbench.engine.sweep import Execution
from peftbench.errors import PeftbenchError
from peftbench.experiments.page import Asked, Statement
from peftbench.plugins.build import canonical
from peftbench.records.results import MethodScores, Result, method_scores
from peftbench.records.runs import Planned
from peftbench.records.store import Store
from peftbench.render.columns import MISSING, Cell, with_interval
from peftbench.stats.estimate import Estimate, estimate
from peftbench.tables.pairs import is_share

from ._told import Told

STANDARD_STEPS = 500  # of the standard budget: below it a comparison is of costs, not of quality
SMOKE = " So few steps are a smoke budget: the order of its scores means nothing beyond the statements tested below."
PUBLISHED_SEEDS = 5  # that a verdict needs before it is cited
# Times the training loss before the first update: more in the last quarter is no noise of batches.
SPOILT = 1.1


@dataclass(frozen=True)
class Setting:
    """What all cells are given alike."""

    model: str
    task: str
    seeds: int = PUBLISHED_SEEDS
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 16
    max_length: int | None = None
    tune: int = 0  # learning rates tried on validation for each cell; 0: presets
    keep_weights: bool = False

    @property
    def budget(self) -> str:
        """In words, for a caption."""
        length = f"{self.steps} steps" if self.steps is not None else f"{self.epochs:g} epochs"
        rates = (
            f"{self.tune} learning rates a cell tried on validation, up to {EXTENSIONS} more where one is best at an edge"
            if self.tune
            else "preset learning rates"
        )
        cut = "" if self.max_length is None else f" cut at {self.max_length} tokens"
        return f"{length} of {self.batch_size} items{cut}, {self.seeds} seeds, {rates}"


# Of tables 5 and 6, which are about the matrices and ranks of attention.
ATTENTION = {
    "cpu": {"newsgroups": Setting("minilm-l6", "newsgroups:inputs=600", steps=40, max_length=24, tune=3)},
    "small": {"MNLI": Setting("FacebookAI/roberta-base", "glue-mnli", steps=1000, batch_size=32, tune=3)},
    "full": {
        "WikiSQL": Setting("openai-community/gpt2-xl", "wikisql", epochs=2.0, batch_size=128, max_length=384, tune=3),
        "MNLI": Setting("openai-community/gpt2-xl", "glue-mnli", epochs=2.0, batch_size=128, max_length=768, tune=3),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One cell of a table."""

    label: str
    method: str  # SPEC
    train_items: int | None = None  # None: all
    learning_rate: float | None = None  # None: the preset, or the one that tuning finds


@dataclass(frozen=True)
class Scored:
    """What came of the cells of one task."""

    setting: Setting
    results: dict[str, list[Result]]  # by label; without those that failed
    reasons: dict[str, str]  # why some failed
    rates: dict[str, float]  # the learning rate of each label
    scores: dict[str, MethodScores] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)  # of each label, the failed ones too
    most_frequent: float | None = (
        None  # accuracy of always giving the most frequent answer; None: not of classes
    )

    @property
    def metric(self) -> dict[str, Any]:
        """The primary one: name, higher_is_better, is_share."""
        first = next(iter(self.results.values()))[0]
        return dict(first.record.metric or {})

    @property
    def percent(self) -> float:
        """What the primary metric is multiplied by to be shown."""
        return 100.0 if self.metric.get("is_share") else 1.0

    def percent_of(self, metric: str | None) -> float:
        """The same of any metric."""
        first = next(iter(self.results.values()))[0]
        return self.percent if metric is None else 100.0 if is_share(metric, first.record) else 1.0

    def shown(self, metric: str | None = None) -> str:
        """A metric's name, by default the primary's, with what it is multiplied by."""
        return f"{metric or self.metric['name']}" + (" x100" if self.percent_of(metric) == 100 else "")

    def score(self, label: str, metric: str | None = None) -> Estimate | None:
        """The mean of one cell over seeds and items; None where no run is good."""
        name = metric or self.metric["name"]
        found = self.scores.get(label)
        if found is None or name not in found.figures:
            return None
        return estimate(found.figures[name], found.groups[name])

    def difference(self, one: str, other: str, metric: str | None = None) -> Estimate | None:
        """The first minus the second, paired by seed and item."""
        name = metric or self.metric["name"]
        a, b = self.scores.get(one), self.scores.get(other)
        if a is None or b is None or name not in a.figures or name not in b.figures:
            return None
        paired = a.figures[name].minus(b.figures[name])
        return None if paired is None else estimate(paired, a.groups[name])

    def good(self, label: str) -> list[Result]:
        """The good runs of a label.

        Raises:
            PeftbenchError: there is none.
        """
        if label not in self.results:
            raise PeftbenchError(f"no run of {label} is good: {self.reasons.get(label)}")
        return self.results[label]

    def cell(self, label: str, metric: str | None = None) -> Cell:
        """A score with its interval."""
        found = self.score(label, metric)
        if found is None:
            return Cell("failed" if label in self.reasons else MISSING)
        good, percent = len(self.results[label]), self.percent_of(metric)
        lost = "" if good == self.runs.get(label, good) else f" ({good}/{self.runs[label]} seeds)"
        half = found.half_width()
        digits = 1 if percent == 100 else 2
        spread = "" if half is None else f" ±{half * percent:.{digits}f}"
        return Cell(f"{found.value * percent:.{digits}f}{spread}{lost}")

    def trained(self, label: str) -> int | None:
        """Numbers that train beside the head."""
        runs = self.results.get(label)
        return None if not runs else (runs[0].record.parameters or {}).get("adapter")

    def losses(self, label: str) -> list[list[float]]:
        """The training loss of each step, of each good run of a label."""
        return [(result.record.training or {})["losses"] for result in self.results.get(label, [])]

    def spoilt(self, label: str) -> int:
        """How many good runs of a label ended at a higher training loss than the model has before training.

        That is the lowest of the labels' first losses: most methods begin as the model itself, others from random vectors.
        """
        before = min(statistics.fmean(losses[0] for losses in self.losses(label)) for label in self.results)
        return sum(
            statistics.fmean(losses[-max(1, len(losses) // 4) :]) > SPOILT * before
            for losses in self.losses(label)
        )

    @property
    def machine(self) -> str:
        first = next(iter(self.results.values()))[0].record
        seen, dtype = first.environment, first.run.dtype
        libraries = seen["libraries"]
        one = seen["threads"] == 1
        place = (
            seen["gpu"] or f"{seen['processor']}, {seen['threads']} {'thread' if one else 'threads'} a run"
        )
        return f"Compute in {dtype}; {place}; torch {libraries['torch']}, transformers {libraries['transformers']}"


def train(asked: Asked, setting: Setting, arms: Sequence[Arm]) -> Scored:
    """Train every cell with every seed; what the store holds is not trained again.

    Raises:
        UsageError: something asked for does not exist.
        PeftbenchError: no run of any cell is good.
    """
    store = Store(asked.store)
    setting = dataclasses.replace(setting, model=asked.model or setting.model)
    spelled = {arm.label: canonical(arm.method) for arm in arms}
    wanted = Comparison(
        methods=tuple(dict.fromkeys(spelled.values())),
        models=(setting.model,),
        tasks=(setting.task,),
        seeds=setting.seeds,
        steps=setting.steps,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        max_length=setting.max_length,
        train_sizes=tuple(dict.fromkeys(arm.train_items for arm in arms)),
        dtype=asked.dtype or "auto",
        baselines=False,
        latency_grid=(),
        profile=False,
        tune=setting.tune,
        data_dir=asked.data_dir,
    )
    how = Execution(keep_weights=setting.keep_weights)
    told = Told(asked.say, lambda item, stored: _said(item, stored.record.status, stored.record.quality))

    def select(planned: list[Planned]) -> list[Planned]:
        """Of each cell its runs, at its own rate where it has one; what two cells share is done once."""
        its = (_at(i, arm) for arm in arms for i in planned if _is_of(i, arm, spelled[arm.label]))
        return list({(item.run.key, item.tunable): item for item in its}.values())

    compared = compare(wanted, store, asked.engine, how, told, select)
    by_key = {result.record.run.key: result for result in compared.results}
    return _scored(
        setting,
        {
            arm.label: [by_key[i.run.key] for i in _of_arm(compared.planned, arm, spelled[arm.label])]
            for arm in arms
        },
    )


def _of_arm(planned: Sequence[Planned], arm: Arm, method: str) -> list[Planned]:
    """The runs of a cell, at the rate that it was given or that tuning chose."""
    its = [item for item in planned if _is_of(item, arm, method)]
    if arm.learning_rate is not None:
        return [item for item in its if not item.tunable and item.run.learning_rate == arm.learning_rate]
    return [item for item in its if item.tunable] or its


def _is_of(item: Planned, arm: Arm, method: str) -> bool:
    return (item.run.method, item.run.budget.train_items) == (method, arm.train_items)


def _at(item: Planned, arm: Arm) -> Planned:
    if arm.learning_rate is None:
        return item
    run = dataclasses.replace(item.run, learning_rate=arm.learning_rate)
    return dataclasses.replace(item, run=run, tunable=False)


def _said(item: Planned, status: str, quality: dict[str, float] | None) -> str:
    run = item.run
    what = "trial" if run.kind == "tuning" else "seed"
    first = next(iter((quality or {}).items()), None)
    return f"{run.method} at {run.learning_rate:g}, {what} {run.seed}: " + (
        f"{first[0]} {first[1]:.3f}" if first and status == "ok" else status
    )


def _scored(setting: Setting, results: dict[str, list[Result]]) -> Scored:
    good = {label: [r for r in found if r.record.status == "ok"] for label, found in results.items()}
    reasons = {
        label: str(next(r.record.reason for r in found if r.record.status != "ok"))
        for label, found in results.items()
        if any(r.record.status != "ok" for r in found)
    }
    if not any(good.values()):
        raise PeftbenchError(f"no run of this experiment is good: {next(iter(reasons.values()))}")
    rates = {label: found[0].record.run.learning_rate for label, found in results.items()}
    scores: dict[str, MethodScores] = {}
    for label, found in good.items():
        made = method_scores(found, range(setting.seeds)) if found else None
        if made is not None:
            scores[label] = made
    runs = {label: len(found) for label, found in results.items()}
    kept = {label: found for label, found in good.items() if found}
    return Scored(setting, kept, reasons, rates, scores, runs, _most_frequent(next(iter(kept.values()))[0]))


def _most_frequent(result: Result) -> float | None:
    """Of the scored items; None where the primary metric is not accuracy."""
    predictions = result.predictions() if (result.record.metric or {}).get("name") == "accuracy" else None
    return (
        None if predictions is None else float(predictions["reference"].value_counts(normalize=True).iloc[0])
    )


def statement(
    says: str,
    test: str,
    found: Estimate | None,
    sides: Callable[[Estimate], tuple[float | None, float | None]],
    percent: float = 100.0,
    evidence: str = "",
    digits: int = 1,
) -> Statement:
    """A statement on one estimate; not testable where its runs failed."""
    if found is None:
        return Statement(says, test, "runs that it needs failed", None, None)
    unit = evidence or ("points" if percent == 100 else "")
    return Statement(
        says, test, f"{with_interval(found, percent, '+', digits)} {unit}".strip(), *sides(found)
    )


def train_all(asked: Asked, columns: dict[str, Setting], arms: Sequence[Arm]) -> dict[str, Scored]:
    """The same cells on several tasks, by the tasks' names on the page."""
    found = {}
    for name, setting in columns.items():
        asked.say(f"{name}: {len(arms)} cells, {setting.budget}")
        found[name] = train(asked, setting, arms)
    return found
