"""Scores made by hand for the paper's experiments."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from peftbench.reports.paper._scored import Scored, Setting

from peftbench.experiments.page import Statement, verdicts_of
from peftbench.records.results import MethodScores
from peftbench.stats.estimate import Groups, Scores

ITEMS, SEEDS = 400, 5


def scored(levels: Mapping[str, float], losses: Mapping[str, float] | None = None) -> Scored:
    """Cells with these mean scores, and items and seeds that differ by a little."""
    draw = np.random.default_rng(0)
    groups = Groups.of([str(i) for i in range(ITEMS)])

    def scores(level: float) -> Scores:
        return Scores.of_items({s: level + 0.002 * draw.standard_normal(ITEMS) for s in range(SEEDS)})

    metric = {"name": "accuracy", "higher_is_better": True, "is_share": True}
    seen = {"gpu": None, "processor": "P", "threads": 1, "libraries": {"torch": "2", "transformers": "5"}}
    record = SimpleNamespace(
        metric=metric,
        metrics=None,
        parameters={"adapter": 8},
        status="ok",
        training={"losses": [1.0, 0.9, 0.8, 0.9]},
        environment=seen,
        run=SimpleNamespace(dtype="float32"),
    )
    found = {}
    for label, level in levels.items():
        figures = {"accuracy": scores(level), "nll": scores((losses or levels)[label])}
        found[label] = MethodScores(figures, dict.fromkeys(figures, groups))
    result: Any = SimpleNamespace(record=record)
    return Scored(
        Setting("m", "t", steps=4),
        {label: [result] for label in levels},
        {},
        dict.fromkeys(levels, 0.1),
        found,
    )


def verdicts(statements: list[Statement] | tuple[Statement, ...]) -> set[str]:
    """Each on its own, so that one does not correct another."""
    return {verdicts_of([one])[0] for one in statements}
