"""Which rows of two sets of runs belong together.

A row is a method at a rate in a setting, see `selection`. Two rows are a pair where everything but the seed is the same. Of what
is left over they are one where each side has one row of a method on a model, task and number of training items. Where one has
several there would be a choice to guess, so they stand alone and are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records.record import Record
from ..records.results import Result
from ..records.setting import Setting
from .selection import Asked, select
from .titles import described, title_of

Key = tuple[Any, ...]
Place = tuple[str, str, str, int | None]


@dataclass(frozen=True)
class Side:
    """The runs of one row in one of the two sets: alike in everything but the seed."""

    method: str
    learning_rate: float
    setting: Setting
    training: Mapping[int, Result]  # by seed
    latency: list[Record]  # by process and grid
    alone: list[Record]  # cost runs, by process

    @property
    def good(self) -> dict[int, Result]:
        return {seed: result for seed, result in self.training.items() if result.record.status == "ok"}

    @property
    def place(self) -> Place:
        """What a pair must have in common at least: method, model, task and number of training items."""
        return self.method, *self.setting.cell

    @property
    def whole(self) -> Key:
        return self.method, self.learning_rate, self.setting


def sides_of(results: Sequence[Result]) -> list[Side]:
    """The rows of one set, of every rate."""
    return [
        Side(
            method,
            learning_rate,
            one.setting,
            {result.record.run.seed: result for result in group},
            [record for record in one.latencies.get(method, ()) if record.status == "ok"],
            [record for record in one.cost_runs.get(method, ()) if record.status == "ok"],
        )
        for one in select(results, Asked("", all_rates=True))
        for (method, learning_rate), group in one.rows.items()
    ]


def matching(a: Sequence[Side], b: Sequence[Side]) -> tuple[list[tuple[Side, Side]], list[Side], list[Side]]:
    """Those that are alike in all settings; of what is left, those of a place at which each side has one. Then the rest of each."""
    of_b = {side.whole: side for side in b}
    found = [(side, of_b[side.whole]) for side in a if side.whole in of_b]
    done = {side.whole for side, _ in found}
    left_a, left_b = ([side for side in sides if side.whole not in done] for sides in (a, b))
    alone_a, alone_b = (Counter(side.place for side in left) for left in (left_a, left_b))
    by_place = {side.place: side for side in left_b}
    further = [
        (side, by_place[side.place]) for side in left_a if alone_a[side.place] == alone_b[side.place] == 1
    ]
    settled = {side.place for side, _ in further}
    left_a, left_b = ([side for side in left if side.place not in settled] for left in (left_a, left_b))
    return found + further, left_a, left_b


def described_side(side: Side) -> dict[str, Any]:
    return {**described(side.setting), "learning rate": side.learning_rate}


def said_of(place: Place, apart: str = "") -> str:
    method, model, task, items = place
    return f"{method} on {title_of(task, items, model)}" + (f", {apart}" if apart else "")
