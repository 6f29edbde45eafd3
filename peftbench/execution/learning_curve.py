"""How quality grows while a run trains: some validation items scored at some moments of it.

Scoring stands outside every meter (timers, peak memory, energy) and draws nothing at random, so a run with a curve ends
with the same weights, bit for bit, as one without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import progress
from ..measure.energy import EnergyMeter
from ..measure.memory import MemoryMeter
from ..objectives import figures
from ..records.in_words import quality_in_words
from . import batches, score

MOST_ITEMS = 200  # of validation: enough to see a curve, few enough to take it often


def moments(steps: int, points: int) -> list[int]:
    """After which steps to score: evenly spaced, the last one among them."""
    return sorted({max(1, round(steps * i / points)) for i in range(1, points + 1)})


def recorder(
    points: int,
    steps: int,
    scorer: score.Scorer,
    validation: batches.Encoded,
    memory: MemoryMeter,
    energy: EnergyMeter,
    title: str,
) -> tuple[Callable[[int, float], None], list[dict[str, Any]]]:
    """What the trainer calls after each step, and the list that it fills: step, seconds trained, and the figures.

    Args:
        title: of the run, for who looks on.
    """
    wanted = set(moments(steps, points)) if points else set()
    few = score.evenly_spread(validation, MOST_ITEMS)
    taken: list[dict[str, Any]] = []

    def watch(done: int, train_s: float) -> None:
        if done not in wanted:
            return
        with memory.paused(), energy.paused():
            predictions = scorer.predict(few)
            scorer.model.train()
        found = figures.figures(scorer.objective, predictions)
        said = quality_in_words(scorer.objective.metric.facts, found)
        progress.notify(f"{title}, after step {done:,} of {steps:,}: validation {said}")
        taken.append({"step": done, "train_s": train_s, "items": len(few), **found})

    return watch, taken
