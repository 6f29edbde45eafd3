"""Equal tuning: every method gets the same number of learning rates on the validation split, around its preset.

Rates are preset x 10^(j/2) for j = 0, +1, -1, +2, -2, ..., so a larger number reuses a smaller one's runs. Each is
trained with seeds of its own and judged by its mean negative log-likelihood on validation; among those within one
standard error of the best (of the paired difference, over seeds and items), the one nearest to the preset is used. When
one method's choice lies at the edge of its grid, EVERY method gets one more rate, each on its own side, at most twice.
A rate that diverges is a bad rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import stats
from .results import Result
from .runs import Planned, Run

SEEDS = (1000, 1001)  # of the trials; reported runs have others
EXTENSIONS = 2  # rates that an edge may add, to every method


@dataclass(frozen=True)
class Trial:
    """One learning rate on validation."""

    half_decade: int  # j of preset x 10^(j/2)
    learning_rate: float
    losses: (
        stats.Scores | None
    )  # negative log-likelihood, (seeds, items); None where a seed failed or diverged
    reason: str | None = None  # why it failed

    @property
    def mean(self) -> float:
        """Mean loss; infinite where there is none."""
        return math.inf if self.losses is None else float(self.losses.values.mean())


@dataclass(frozen=True)
class Curve:
    """All trials of one method, by rate."""

    trials: tuple[Trial, ...]
    groups: tuple[str, ...]  # of the validation items

    @property
    def chosen(self) -> Trial | None:
        """The rate to use; None where none trained."""
        good = [trial for trial in self.trials if trial.losses is not None]
        if not good:
            return None
        best = min(good, key=lambda trial: trial.mean)
        near = [trial for trial in good if trial is best or self._within_one_error(trial, best)]
        return min(near, key=lambda trial: (abs(trial.half_decade), trial.mean))

    @property
    def edge(self) -> bool:
        """Whether the chosen rate is the lowest or the highest of several."""
        chosen = self.chosen
        ends = (self.trials[0], self.trials[-1])
        return chosen is not None and len(self.trials) > 1 and any(chosen is end for end in ends)

    @property
    def next_half_decade(self) -> int:
        """Where one more trial would go: beyond the edge on the side on which the chosen rate lies."""
        chosen = self.chosen
        places = [trial.half_decade for trial in self.trials]
        j = chosen.half_decade if chosen is not None else 0
        if j == 0:  # in the middle: the side that looks better
            means = {trial.half_decade: trial.mean for trial in self.trials}
            j = 1 if means.get(1, math.inf) <= means.get(-1, math.inf) else -1
        return max(places) + 1 if j > 0 else min(places) - 1

    def best_of(self, count: int) -> Trial | None:
        """What tuning with `count` rates would have chosen."""
        wanted = set(grid(count))
        fewer = tuple(trial for trial in self.trials if trial.half_decade in wanted)
        return Curve(fewer, self.groups).chosen

    def _within_one_error(self, trial: Trial, best: Trial) -> bool:
        assert trial.losses is not None and best.losses is not None
        difference = trial.losses.minus(best.losses)
        if difference is None:
            return False
        found = stats.estimate(difference, self.groups)
        return found.variance is not None and found.value <= math.sqrt(found.variance)


def grid(count: int) -> list[int]:
    """The first `count` of 0, +1, -1, +2, -2, ..."""
    return [(i + 1) // 2 * (1 if i % 2 else -1) for i in range(count)]


def rate(preset: float, half_decade: int) -> float:
    """preset x 10^(j/2) with two digits, so that grids around one preset meet in the same numbers."""
    return preset if half_decade == 0 else float(f"{preset * 10 ** (half_decade / 2):.2g}")


def trial_runs(item: Planned, half_decade: int) -> list[Planned]:
    """The runs of one trial of a method, for one of its reported runs at its preset."""
    run = item.run
    first = dataclasses.replace(
        run.without_forgetting,
        kind="tuning",
        learning_rate=rate(run.learning_rate, half_decade),
        half_decade=half_decade,
    )
    return [dataclasses.replace(item, run=dataclasses.replace(first, seed=seed)) for seed in SEEDS]


def curve(results: Iterable[Result]) -> Curve:
    """The curve of one method from the results of its trials."""
    by_rate: dict[tuple[float, int], list[Result]] = {}
    for result in results:
        run: Run = result.record.run
        by_rate.setdefault((run.learning_rate, run.half_decade or 0), []).append(result)
    trials: list[Trial] = []
    groups: tuple[str, ...] = ()
    for (learning_rate, half_decade), tried in sorted(by_rate.items()):
        frames = {r.record.run.seed: r.predictions() for r in tried}
        failed = next((r.record.reason for r in tried if r.record.status != "ok"), None)
        losses = None
        if failed is None:
            losses = stats.Scores.of_items(
                {s: f["nll"].to_numpy() for s, f in frames.items() if f is not None}
            )
            groups = next(tuple(f["group"].astype(str)) for f in frames.values() if f is not None)
        trials.append(Trial(half_decade, learning_rate, losses, failed))
    return Curve(tuple(trials), groups)


def tune(
    planned: Sequence[Planned], count: int, do: Callable[[list[Planned]], list[Result]]
) -> tuple[list[Planned], list[Result]]:
    """Tune the methods of one model and task with `count` rates each.

    Args:
        planned: their reported runs, at their presets.
        do: does runs, or finds them in the store.

    Returns:
        The reported runs at their chosen rates, and the results of all trials.
    """
    first = {item.run.method: item for item in planned if item.tunable}
    places = {method: grid(count) for method in first}
    found: dict[str, list[Result]] = {method: [] for method in first}
    for extension in range(EXTENSIONS + 1):
        wanted = [run for m, item in first.items() for j in places[m] for run in trial_runs(item, j)]
        for result in do(wanted):
            found[result.record.run.method].append(result)
        curves = {method: curve(results) for method, results in found.items()}
        if count < 2 or extension == EXTENSIONS or not any(c.edge for c in curves.values()):
            break
        places = {method: [c.next_half_decade] for method, c in curves.items()}
    chosen = {method: c.chosen for method, c in curves.items()} if first else {}
    at_rates = []
    for item in planned:
        trial = chosen.get(item.run.method) if item.tunable else None
        run = item.run if trial is None else dataclasses.replace(item.run, learning_rate=trial.learning_rate)
        at_rates.append(dataclasses.replace(item, run=run))
    return at_rates, [result for results in found.values() for result in results]
