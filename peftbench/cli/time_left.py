"""How long a comparison will still take, by the runs that it has done so far."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean

from ..records.in_words import span_in_words

TRIALS = "tuning"  # runs after which others are planned
LEAST_S = 60.0  # below it nobody plans anything by it


class TimeLeft:
    """Of the runs that are planned; a run takes what those of its kind took, and as many are at work at once as were so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: Counter[str] = Counter()  # runs by kind
        self._took_s: defaultdict[str, list[float]] = defaultdict(list)
        self._began_s: float | None = None

    def planned(self, kinds: Iterable[str]) -> None:
        """Runs of these kinds are to come."""
        self._waiting.update(kinds)

    def began(self) -> None:
        """A run was begun, and not found in the store."""
        if self._began_s is None:
            self._began_s = self._clock()

    def done(self, kind: str, took_s: float | None) -> None:
        """A run has ended; `took_s` is None of one that was there already."""
        self._waiting[kind] -= 1
        if took_s is not None:
            self._took_s[kind].append(took_s)

    def seconds(self) -> float | None:
        """None: nothing tells."""
        everything = [took for its in self._took_s.values() for took in its]
        if self._began_s is None or not everything:
            return None
        each = fmean(everything)
        left = sum(
            n * (fmean(self._took_s[kind]) if self._took_s[kind] else each)
            for kind, n in self._waiting.items()
        )
        at_once = max(1.0, math.fsum(everything) / max(self._clock() - self._began_s, 1e-9))
        return left / at_once

    def said(self) -> str:
        """As "about 40 min left"; empty where that is not known, or short."""
        left = self.seconds()
        if left is None or left < LEAST_S:
            return ""
        of = " for the trials" if set(+self._waiting) == {TRIALS} else ""
        return f"about {span_in_words(left)} left{of}"
