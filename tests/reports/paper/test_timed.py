"""Statements of experiments that time and weigh: figures made up on both sides of each."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from peftbench.reports.paper import (
    _measured,
    figure5,
    table1,
)
from peftbench.reports.paper._timed import Timed

from peftbench.experiments.page import (
    CONFIRMED,
    CONTRADICTED,
    NOT_TESTABLE,
)
from peftbench.records.runs import BASE

from ...support.scored import verdicts


def timed(
    places: tuple[tuple[int, int], ...], slow: Callable[[str, tuple[int, int]], float], variants: list[str]
) -> Timed:
    """Three processes in which each variant takes so many times the base's time."""
    draw = np.random.default_rng(0)
    cells: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for place in places:
        for _ in range(3):
            base = 10 + 0.01 * draw.standard_normal(40)
            ms = {BASE: base.tolist()}
            for name in variants:
                ms[name] = (base * slow(name, place) * (1 + 0.001 * draw.standard_normal(40))).tolist()
            cells.setdefault(place, []).append({"ms": ms, "refusal": None})
    record: Any = SimpleNamespace(run=SimpleNamespace(device="cpu"))
    return Timed((record,), cells)  # fmt: skip


@pytest.mark.parametrize(
    ("merged", "low", "high", "said"), [(1.0, 1.1, 1.2, CONFIRMED), (1.1, 0.9, 0.8, CONTRADICTED)]
)
def test_table1(merged: float, low: float, high: float, said: str) -> None:
    setting = table1.SETTINGS["cpu"]
    small, large = table1.adapters(setting.small), table1.adapters(setting.large)
    lora = table1.merged(table1.LORA)

    def slow(name: str, place: tuple[int, int]) -> float:
        cost = merged if name == lora else low if name.startswith("adapter-l") else high
        return 1 + (cost - 1) * (1.5 if place == setting.places[-1] else 1.0)

    found = timed(setting.places, slow, [lora, *small, *large])
    by_place = {p: (found, small if p == setting.places[0] else large) for p in setting.places}
    assert verdicts(table1._statements(by_place, "cpu")) == {said}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "last", "high", "said"), [(1.3, 1.05, 1.1, CONFIRMED), (1.05, 1.2, 0.9, CONTRADICTED)]
)
def test_figure5(first: float, last: float, high: float, said: str) -> None:
    setting = figure5.SETTINGS["cpu"]
    places = tuple((b, n) for n in setting.lengths for b in setting.batches)
    variants = [figure5.of(name, r) for _, name in figure5.ROWS for r in setting.bottlenecks]

    def slow(name: str, place: tuple[int, int]) -> float:
        cost = first if place == places[0] else last
        return cost * (high if name.startswith("adapter-h") else 1.0)

    assert verdicts(figure5._statements(timed(places, slow, variants), setting, "cuda")) == {said}  # fmt: skip
    above_30 = figure5._statements(timed(places, slow, variants), setting, "cpu")[-1]
    assert verdicts([above_30]) == {NOT_TESTABLE}  # a CPU does not wait for launches


@pytest.mark.parametrize(("cost", "said"), [(1.0, CONFIRMED), (1.1, CONTRADICTED)])
def test_a_merged_models_passes(cost: float, said: str) -> None:
    lora = "lora:rank=4:targets=query+value"
    found = timed(((1, 8), (2, 8)), lambda name, place: cost, [table1.merged(lora)])
    assert verdicts(_measured.passes_statements(found, lora)) == {said}


def test_memory_is_judged_where_activations_are_few() -> None:
    def step(place: tuple[int, int], full: int, lora: int, activations: int) -> _measured.StepPeaks:
        return _measured.StepPeaks(
            place, _measured.Peak(full, 0, None), _measured.Peak(lora, activations, None)
        )

    good, bad, heavy = (
        step((1, 8), 1600, 450, 20),
        step((1, 8), 1600, 800, 20),
        step((4, 64), 2000, 1500, 900),
    )
    found = _measured.memory_statement([good, heavy], "")
    assert verdicts([found]) == {CONFIRMED} and "falls below 3 at 256 tokens" in found.evidence
    assert verdicts([_measured.memory_statement([bad], "")]) == {CONTRADICTED}
    assert verdicts([_measured.memory_statement([heavy], "")]) == {NOT_TESTABLE}
    refused = _measured.memory_statement([], "it does not fit")
    assert verdicts([refused]) == {NOT_TESTABLE} and refused.evidence == "it does not fit"
