"""What a table tells of other tasks (`--retain`): their scores after training minus before, paired by seed and item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records.results import Result
from ..records.retained import RetainedScores, retained_scores
from ..records.runs import Run
from ..stats.estimate import Estimate, estimate

if TYPE_CHECKING:
    from .table import Table

Look = tuple[str, str | None, int]  # a task's SPEC, what its scores depend on, how many items at most


@dataclass(frozen=True)
class RetainedTask:
    """Another task that the runs of a table were scored on."""

    look: Look
    name: str  # of its column, and how those of its raw figures begin
    metric: Mapping[str, Any]  # the primary one, as a record keeps it
    items: int

    @property
    def spec(self) -> str:
        return self.look[0]

    @property
    def percent(self) -> float:
        """What its scores are multiplied by to be shown."""
        return 100.0 if self.metric["is_share"] else 1.0

    @property
    def shown_metric(self) -> str:
        """With its unit."""
        return f"{self.metric['name']} {self.metric['unit']}".strip()


@dataclass(frozen=True)
class Retained:
    """What became of one method's score on another task: means over seeds."""

    before: float
    after: float
    difference: Estimate  # after minus before, paired
    nll_difference: Estimate  # of the negative log-likelihood an item, in nats, the same way


def tasks_of(results: Sequence[Result]) -> tuple[RetainedTask, ...]:
    """The other tasks of some results; of one with several versions of its data, or numbers of items, those of most runs."""
    good = [r for r in results if r.record.status == "ok" and r.record.retained]
    counts = Counter(look for result in good for look in _looks(result.record.run))
    chosen: dict[str, Look] = {}
    for look in sorted(counts, key=lambda look: (counts[look], str(look))):
        chosen[look[0]] = look
    found: list[RetainedTask] = []
    for result in good:
        for look, told in zip(_looks(result.record.run), result.record.retained or (), strict=False):
            if look in chosen.values() and look not in [task.look for task in found]:
                known = [task.name for task in found]
                found.append(RetainedTask(look, _name(look[0], known), told["metric"], told["items"]))
    return tuple(found)


def retained_of(
    group: Sequence[Result], tasks: Iterable[RetainedTask], seeds: Sequence[int], alpha: float
) -> dict[str, Retained]:
    """By its column's name, what the runs of one method retain of each task that some of them were scored on."""
    found = {}
    for task in tasks:
        scores = _scores(group, task, seeds)
        if scores is not None:
            change = scores.after.minus(scores.before)
            assert change is not None  # of the same seeds
            found[task.name] = Retained(
                float(scores.before.values.mean()),
                float(scores.after.values.mean()),
                estimate(change, scores.groups, alpha),
                estimate(scores.nll, scores.items, alpha),
            )
    return found


def after_in(
    a: Sequence[Result], b: Sequence[Result]
) -> tuple[list[tuple[RetainedTask, float, float, Estimate]], list[str]]:
    """Of runs of one method in two stores: each other task that both were scored on, its scores after training in A and in B, and B minus A,
    paired by seed and item; and the columns that one of the two lacks.
    """
    sides = [{task.look: task for task in tasks_of(results)} for results in (a, b)]
    found = []
    for task in sides[0].values():
        one, other = (_scores(results, task, [r.record.run.seed for r in results]) for results in (a, b))
        if one is None or other is None or one.after.parts.shape[1] != other.after.parts.shape[1]:
            continue
        change = other.after.minus(one.after)
        if change is not None:
            of_a, of_b = (float(its.after.values.mean()) for its in (one, other))
            found.append((task, of_a, of_b, estimate(change, one.groups)))
    told = {task.look for task, *_ in found}
    return found, sorted({t.name for side in sides for look, t in side.items() if look not in told})


def notes(table: Table) -> list[str]:
    """How the columns are read, and from where each task's score moved."""
    told = []
    for task in table.retained:
        known = [row.retained[task.name].before for row in table.rows if task.name in row.retained]
        if not known:
            continue
        low, high = (f"{figure * task.percent:.1f}" for figure in (min(known), max(known)))
        lower = "" if task.metric["higher_is_better"] else ", lower is better"
        told.append(
            f"{task.spec} {task.shown_metric} {low if low == high else f'{low} to {high}'} ({task.items:,} items{lower})"
        )
    if not told:
        return []
    how = (
        "Retained: scores on other tasks after training minus before, where before is the model without the method; the same items for all "
        "methods and seeds, paired by item; ± over seeds and items. Before: "
    )
    return [f"{how}{'; '.join(told)}."]


def _scores(group: Sequence[Result], task: RetainedTask, seeds: Sequence[int]) -> RetainedScores | None:
    placed = [(r, _looks(r.record.run).index(task.look)) for r in _scored_on(group, task.look)]
    return retained_scores(placed, task.metric["name"], seeds)


def _scored_on(group: Sequence[Result], look: Look) -> list[Result]:
    return [
        r for r in group if r.record.status == "ok" and r.record.retained and look in _looks(r.record.run)
    ]


def _looks(run: Run) -> list[Look]:
    return [
        (task, source, run.retain_items)
        for task, source in zip(run.retain, run.retained_sources, strict=True)
    ]


def _name(task: str, known: Sequence[str]) -> str:
    """A name for columns, which have neither commas nor colons: those are between names, and before an order."""
    name = "retained_" + re.sub(r"[^A-Za-z0-9.-]+", "_", task).strip("_")
    return name if name not in known else f"{name}_{len(known) + 1}"
