"""Ratios of times taken in turns: a slow-down with its interval, and whether it is shown to be none.

The statistic is the median over rounds of log(other / base). Rounds of one process share its memory placement, its
clocks and its neighbours, so several fresh processes are taken: their medians are averaged, and the error comes from
how they differ (t, processes - 1 df). Two or three medians may lie close by chance; a block bootstrap of the rounds
inside the processes is the least that the variance can be. The degrees of freedom are the processes' all the same:
taken from the rounds where the medians lie close, they would be many just where least is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .estimate import Estimate, Part

BLOCK_ROUNDS = 20  # rounds that the bootstrap keeps together: drift is shared by neighbours
BOOTSTRAPS = 1000
EQUIVALENCE = {"cpu": 0.02, "cuda": 0.01}  # a slow-down shown to lie within counts as none
Rounds = Sequence[float]


@dataclass(frozen=True)
class Slowdown:
    """A ratio of times minus one, as a fraction, with its uncertainty."""

    log_ratio: float
    part: Part  # of the log ratio's variance
    processes: int

    @property
    def value(self) -> float:
        return math.expm1(self.log_ratio)

    @property
    def estimate(self) -> Estimate:
        """Of the log ratio."""
        return Estimate(self.log_ratio, (self.part,), self.processes)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """What the slow-down lies between."""
        ends = self.estimate.interval(1 - confidence)
        assert ends is not None
        return math.expm1(ends[0]), math.expm1(ends[1])

    def half_width(self, confidence: float = 0.95) -> float:
        """Half of the width of the interval."""
        low, high = self.interval(confidence)
        return (high - low) / 2

    def is_none(self, margin: float) -> bool:
        """Whether the 90 % interval lies within +-margin: two one-sided tests at 5 %. Noise can't pass it."""
        return self.side(margin) == 0

    def side(self, margin: float) -> int | None:
        """Where the 90 % interval lies: within +-margin (0), above (1) or below it (-1); None where it does not tell."""
        low, high = self.interval(0.90)
        if -margin < low and high < margin:
            return 0
        return 1 if low > margin else -1 if high < -margin else None


def slowdown(processes: Sequence[tuple[Rounds, Rounds]]) -> Slowdown:
    """The slow-down of one thing over another.

    Args:
        processes: for each process, the times of the base and of the other by round, in the same unit.
    """
    logs = [np.log(np.asarray(other) / np.asarray(base)) for base, other in processes]
    medians = np.array([np.median(log) for log in logs])
    count = len(medians)
    within = float(np.mean([_variance_of_median(log) for log in logs])) / count
    if count > 1:
        part = Part(max(float(medians.var(ddof=1)) / count, within), count - 1.0)
    else:
        blocks = len(logs[0]) / min(BLOCK_ROUNDS, max(1, len(logs[0]) // 3))
        part = Part(within, max(1.0, blocks - 1))
    return Slowdown(float(medians.mean()), part, count)


def _variance_of_median(log_ratios: npt.NDArray[np.float64]) -> float:
    """By a block bootstrap."""
    rounds = len(log_ratios)
    block = min(BLOCK_ROUNDS, max(1, rounds // 3))
    draw = np.random.default_rng(0)
    starts = draw.integers(0, rounds - block + 1, size=(BOOTSTRAPS, -(-rounds // block)))
    samples = (starts[:, :, None] + np.arange(block)).reshape(BOOTSTRAPS, -1)[:, :rounds]
    return float(np.median(log_ratios[samples], axis=1).var())
