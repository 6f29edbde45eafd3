"""Adding seeds until the comparison resolves what is asked, with the chance of error kept.

Looking again and again at a 95 % interval and stopping when it pleases makes it miss more often than 5 %. So each look
may spend only a part of alpha = .05: after k of at most `cap` seeds, the looks so far may have spent alpha (k / cap)^2
(a power spending function; Lan & DeMets 1983, Kim & DeMets 1987), and the parts of the looks add up to no more than
alpha, whatever their correlation. Intervals and tests of a look use its part alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .estimate import ALPHA

GROWTH = 1.5  # from one look to the next: few looks leave more of alpha to each


@dataclass(frozen=True)
class SeedSchedule:
    """A rule for adding seeds: fixed before the first look, noted in every record made under it."""

    resolve: float  # the half-width that is asked for: points of a share, else the metric's units
    first: int  # seeds at the first look
    cap: int  # seeds at the last

    def looks(self) -> list[int]:
        """The numbers of seeds at which one looks."""
        return list(itertools.takewhile(lambda k: k < self.cap, self._grown())) + [self.cap]

    def _grown(self) -> Iterator[int]:
        seeds = self.first
        while True:
            yield seeds
            seeds = math.ceil(seeds * GROWTH)

    def next_look(self, seeds: int) -> int | None:
        """How many seeds the look after this one has; None after the last."""
        return next((k for k in self.looks() if k > seeds), None)

    def alpha(self, seeds: int) -> float:
        """What the look at this many seeds may spend; one between two looks counts as the next one."""
        looks = self.looks()
        index = next((i for i, k in enumerate(looks) if k >= seeds), len(looks) - 1)
        before = looks[index - 1] if index else 0
        return ALPHA * ((looks[index] / self.cap) ** 2 - (before / self.cap) ** 2)

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> SeedSchedule | None:
        return None if data is None else cls(**data)
