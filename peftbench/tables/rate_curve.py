"""The learning rates of one method on validation, and which of them is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..records.results import Result
from ..records.runs import Run
from ..stats.estimate import Scores, estimate


@dataclass(frozen=True)
class Trial:
    """One learning rate on validation."""

    half_decade: int  # j of preset x 10^(j/2)
    learning_rate: float
    losses: Scores | None  # negative log-likelihood, (seeds, items); None where a seed failed or diverged
    reason: str | None = None  # why it failed

    @property
    def mean(self) -> float:
        """Mean loss; infinite where there is none."""
        return math.inf if self.losses is None else float(self.losses.values.mean())


@dataclass(frozen=True)
class RateCurve:
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

    @property
    def counts(self) -> list[int]:
        """Of 1, 3, 5 and all rates, those whose grid was tried: what an extended grid left out can't be spoken of."""
        places = {trial.half_decade for trial in self.trials}
        return [k for k in (1, 3, 5) if k < len(self.trials) and places.issuperset(grid(k))] + [
            len(self.trials)
        ]

    def best_of(self, count: int) -> Trial | None:
        """What tuning with `count` rates would have chosen, which must be one of `counts`."""
        if count == len(self.trials):
            return self.chosen
        wanted = set(grid(count))
        fewer = tuple(trial for trial in self.trials if trial.half_decade in wanted)
        return RateCurve(fewer, self.groups).chosen

    def _within_one_error(self, trial: Trial, best: Trial) -> bool:
        assert trial.losses is not None and best.losses is not None
        difference = trial.losses.minus(best.losses)
        if difference is None:
            return False
        found = estimate(difference, self.groups)
        return found.variance is not None and found.value <= math.sqrt(found.variance)


def grid(count: int) -> list[int]:
    """The first `count` of 0, +1, -1, +2, -2, ..."""
    return [(i + 1) // 2 * (1 if i % 2 else -1) for i in range(count)]


def rate_curve(results: Iterable[Result]) -> RateCurve:
    """The curve of one method from the results of its trials; a rate that lacks seeds of the others was interrupted, and waits."""
    by_rate: dict[tuple[float, int], list[Result]] = {}
    for result in results:
        run: Run = result.record.run
        by_rate.setdefault((run.learning_rate, run.half_decade or 0), []).append(result)
    trials: list[Trial] = []
    groups: tuple[str, ...] = ()
    most = max(map(len, by_rate.values()), default=0)
    whole = {place: tried for place, tried in by_rate.items() if len(tried) == most}
    for (learning_rate, half_decade), tried in sorted(whole.items()):
        frames = {r.record.run.seed: r.predictions() for r in tried}
        failed = next((r.record.reason for r in tried if r.record.status != "ok"), None)
        losses = None
        if failed is None:
            losses = Scores.of_items({s: f["nll"].to_numpy() for s, f in frames.items() if f is not None})
            groups = next(tuple(f["group"].astype(str)) for f in frames.values() if f is not None)
        trials.append(Trial(half_decade, learning_rate, losses, failed))
    return RateCurve(tuple(trials), groups)
