"""A comparison as data: rows, their checks, and what a reader must know. Reports read nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..records.record import FAIL, Check, Record
from ..records.setting import Setting
from ..stats.estimate import ALPHA, Estimate
from .costs import NO_COSTS, Costs
from .rate_curve import RateCurve
from .retained import Retained, RetainedTask

MARGIN = 0.01  # differences inside it count as none: one point of a share


@dataclass(frozen=True)
class Row:
    """One method on one model and task. What is not known is None."""

    method: str
    label: str  # the method, with what tells it from another row of the same
    baseline: bool
    status: str  # "ok", "failed" (no seed is good) or "not supported"
    reason: str | None
    seeds_good: int
    seeds_tried: int
    seedless: bool  # one run stands for all seeds
    learning_rate: float | None
    solved: bool = (
        False  # in one go, without steps: what trains in steps must be better to have learned something
    )
    score: Estimate | None = None
    difference: Estimate | None = None  # to the reference method, paired
    p_holm: float | None = None
    mark: str = ""  # "best", "equivalent", "open" or ""
    quality: Mapping[str, Estimate] = field(default_factory=dict)  # every metric, "nll" among them
    nll_difference: Estimate | None = None  # to the reference method, paired by item
    failed_seeds: Mapping[int, str] = field(default_factory=dict)  # that learned nothing, and how one sees it
    score_of_learned: Estimate | None = None  # over the other seeds, where there are both
    checks: tuple[Check, ...] = ()  # the worst outcome of each over the seeds
    departures: tuple[str, ...] = ()  # from the shared budget, as measured
    forgetting: Estimate | None = None  # nats a token on another text, after minus before
    retained: Mapping[str, Retained] = field(default_factory=dict)  # scores on other tasks, by column
    rate_curve: RateCurve | None = None  # its learning rates on validation, where it was tuned
    costs: Costs = NO_COSTS
    seconds_to_reference: tuple[
        float | None, ...
    ] = ()  # of training, by seed, until the reference's curve end is met

    @property
    def tuned(self) -> bool:
        """Whether its learning rate is the one that its curve chooses."""
        chosen = None if self.rate_curve is None else self.rate_curve.chosen
        return chosen is not None and chosen.learning_rate == self.learning_rate

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Claims that do not hold."""
        return tuple(check for check in self.checks if check.outcome == FAIL)

    @property
    def sound(self) -> bool:
        """Whether its figures may be set against others': no claim of it fails, and no seed."""
        return not (self.failed_checks or self.failed_seeds)


@dataclass(frozen=True)
class Table:
    """The rows of one setting, with what a reader must know."""

    setting: Setting
    metric: str
    is_share: bool
    unit: str  # behind the metric's name
    higher_is_better: bool
    reference: str | None  # the label of the row that differences are taken to
    caption: str
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    further: tuple[
        Mapping[str, Any], ...
    ] = ()  # metrics with a column beside the primary one, as a record keeps them
    forgetting: str | None = None  # SPEC of the task whose texts show what is forgotten
    retained: tuple[RetainedTask, ...] = ()  # other tasks that the runs were scored on
    records: tuple[Record, ...] = ()  # of the runs that the rows are made of
    pairwise: Mapping[tuple[str, str], Estimate] = field(
        default_factory=dict
    )  # of labels: first minus second
    columns: tuple[str, ...] = ()  # that were asked for; none: the report's own
    order: tuple[int, ...] = ()  # of the rows where they are shown; none: as they are. No figure hangs on it
    alpha: float = ALPHA  # the chance with which an interval may miss; less where seeds were added in looks

    @property
    def model(self) -> str:
        return self.setting.model

    @property
    def task(self) -> str:
        return self.setting.task

    @property
    def shown_rows(self) -> tuple[Row, ...]:
        """The rows in the order that was asked for."""
        return tuple(self.rows[i] for i in self.order) if self.order else self.rows

    @property
    def as_shown(self) -> Table:
        """The same with its rows where they are shown, for what draws them by their places."""
        return replace(self, rows=self.shown_rows, order=())

    def row_of(self, method: str) -> Row | None:
        """The row that stands for a method: its only one with a score, else the tuned one; None where that is a guess."""
        rows = [row for row in self.rows if row.method == method and row.score is not None]
        chosen = rows if len(rows) == 1 else [row for row in rows if row.tuned]
        return chosen[0] if len(chosen) == 1 else None

    def labelled(self, label: str | None) -> Row | None:
        """The row of that label."""
        return next((row for row in self.rows if row.label == label), None)

    @property
    def settings(self) -> Mapping[str, Any]:
        """By name, for reports: conditions, and the budget."""
        budget = self.setting.budget.__dict__
        return {**self.setting.conditions(), "forgetting": self.forgetting, **budget}

    @property
    def resolution(self) -> float | None:
        """The difference that this table resolves: the median half-width of its differences."""
        halves = [
            h
            for row in self.rows
            if (d := row.difference) and d.decides and (h := d.half_width()) is not None
        ]
        return statistics.median(halves) if halves else None
