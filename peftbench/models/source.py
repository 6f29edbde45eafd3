"""A model's files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a model's files are."""

    name: str  # as asked for
    location: str  # a folder
    revision: str  # changes when the weights do
    weights: bool = (
        True  # False: a config alone, from which random weights are drawn for measurements of costs
    )
