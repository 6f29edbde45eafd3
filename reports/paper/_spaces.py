"""The low-rank updates of several seeds, and figures made of every two of them.

A LoRA that starts at the usual scale of .02 moves by a third of its start, so that two runs of one seed share what they were drawn with.
These runs start at a tenth of that; every two that are compared have different seeds, and with them orders of the items.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from peftbench.analysis.updates import Update, updates_at
from peftbench.experiments.page import Asked, Sides
from peftbench.render.analysis import MOVED
from peftbench.stats.estimate import Estimate, Part

from ._scored import Arm, Scored, Setting, train

ROLES = {"query": "Wq", "value": "Wv"}
SPEC = "lora:rank={}:targets=query+value:init_std=0.002"
SETTINGS = {
    "cpu": Setting("minilm-l6", "newsgroups:inputs=20", steps=120, max_length=24),
    "small": Setting("FacebookAI/roberta-base", "newsgroups:inputs=20", steps=1000, batch_size=32, max_length=128),
    "full": Setting("FacebookAI/roberta-large", "newsgroups:inputs=20", epochs=10.0, batch_size=32, max_length=128),
}  # fmt: skip
T = TypeVar("T")
Matrix = tuple[str, int]  # role, layer
Learned = dict[Matrix, Update]  # of one run


@dataclass(frozen=True)
class Runs:
    """What runs of one rank learned, by seed."""

    by_seed: dict[int, Learned]
    scored: Scored

    @property
    def layers(self) -> list[int]:
        return sorted({layer for _, layer in next(iter(self.by_seed.values()))})

    @property
    def middle(self) -> int:
        """The layer that is drawn, as the paper draws 48 of 96."""
        return self.layers[len(self.layers) // 2]

    @property
    def least_moved(self) -> float:
        """|A - A0| / |A0| of the matrix that moved least."""
        return min(moved(update) for learned in self.by_seed.values() for update in learned.values())


def learn(asked: Asked, ranks: tuple[int, ...], shuffled: bool = False) -> dict[int, Runs]:
    """Train LoRAs of these ranks; with shuffled labels, which leave nothing to learn but the items."""
    setting = SETTINGS[asked.scale]
    if shuffled:
        setting = dataclasses.replace(setting, task=f"{setting.task}:shuffled=true")
    asked.say(f"ranks {', '.join(map(str, ranks))} on {setting.task}, {setting.budget}")
    arms = [Arm(str(rank), SPEC.format(rank)) for rank in ranks]
    scored = train(asked, setting, arms)
    found = {}
    for rank in ranks:
        by_seed = {}
        for result in scored.good(str(rank)):
            assert result.folder is not None
            updates = updates_at(result.folder)
            by_seed[result.record.run.seed] = {
                (u.role, u.layer): u for u in updates if u.role and u.layer is not None
            }
        found[rank] = Runs(by_seed, scored)
    return found  # fmt: skip


def moved(update: Update) -> float:
    """|A - A0| / |A0|."""
    assert update.start is not None
    return float(np.linalg.norm(update.a - update.start) / np.linalg.norm(update.start))


def testable(sides: Sides, *runs: Runs) -> Sides:
    """The sides of a statement on A's directions, where A moved far enough in all these runs for them to be training's."""
    return sides if min(one.least_moved for one in runs) >= MOVED else (None, None)


def unmoved(*runs: Runs) -> str:
    """What an evidence says where A did not."""
    least = min(one.least_moved for one in runs)
    return "" if least >= MOVED else f"; A moved by {least:.1f} times its start, not {MOVED:g}"


def side_by_side(one: Runs, other: Runs) -> dict[int, tuple[Learned, Learned]]:
    """What two sets of runs learned, by the seeds that both have."""
    return {s: (learned, other.by_seed[s]) for s, learned in one.by_seed.items() if s in other.by_seed}


def beyond_control(
    figure: Callable[[Learned, Learned], float],
) -> Callable[[tuple[Learned, Learned], tuple[Learned, Learned]], float]:
    """A figure of true labels minus that of shuffled ones, of the same two seeds."""
    return lambda a, b: figure(a[0], b[0]) - figure(a[1], b[1])


def over_pairs(one: Mapping[int, T], other: Mapping[int, T], figure: Callable[[T, T], float]) -> Estimate:
    """The mean of a figure over all pairs of different seeds, its error by leaving out one seed at a time."""
    values = {(s, t): figure(one[s], other[t]) for s, t in itertools.product(one, other) if s != t}
    seeds = sorted({*one, *other})
    mean = float(np.mean(list(values.values())))
    if len(seeds) < 3:  # nothing is left without one
        return Estimate(mean, None, len(seeds))
    without = np.array(
        [np.mean([value for pair, value in values.items() if seed not in pair]) for seed in seeds]
    )
    count = len(seeds)
    variance = float((count - 1) / count * ((without - without.mean()) ** 2).sum())
    return Estimate(mean, (Part(variance, count - 1.0),), count)


def caption(runs: Runs) -> str:
    """Model, data, budget and machine."""
    setting = runs.scored.setting
    return (
        f"{setting.model} on {setting.task}, {setting.budget}; LoRA on Wq and Wv of every layer with A drawn at .002. "
        f"{runs.scored.machine}."
    )


DIFFERS = (
    "GPT-3 is not public: a small model, in which random spans share much more: max(i, j) / width is drawn in or subtracted.",
    "A starts at .002, a tenth of the usual scale, or the figures would show what it was drawn with; whether it moved far enough is tested first.",
    "The paper has no error over seeds.",
)
OF_PAIRS = (  # what the figures that compare two runs add
    "Every two runs that are compared have different seeds and orders of the items; the paper has no control with shuffled labels.",
    "phi(i, j), from 0 to 1, is the share of the smaller of two spans that lies in the larger: of the first i directions of one run and the first j of another (section 7.2). A0 is A before training.",
)
