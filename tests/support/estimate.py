"""Scores by seed."""

from __future__ import annotations

from peftbench.stats.estimate import (
    Floats,
    Scores,
)


def by_seed(rows: Floats) -> Scores:
    """Scores of seeds 0, 1, ... from a row each."""
    return Scores.of_items(dict(enumerate(rows)))
