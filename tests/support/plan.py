"""Runs on fewer training items."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from peftbench.records.runs import Run

Make = Callable[..., Run]


def sized(run: Run, items: int | None) -> Run:
    return dataclasses.replace(run, budget=dataclasses.replace(run.budget, train_items=items))
