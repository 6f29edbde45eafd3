"""A gate over several limits, and over figures that are not whole in both stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.stats.estimate import Estimate, Part
from peftbench.tables.axes import axes_of
from peftbench.tables.gate import FAILED, INCONCLUSIVE, PASSED, judge, limit_of
from peftbench.tables.pairs import Pair, PairedFigure, pair
from peftbench.tables.quantities import STORED
from peftbench.tables.tabulate import tables_of

from . import test_pairs
from .test_pairs import latency, verdict

runs = test_pairs.runs  # the fixture


def test_failing_is_shown_over_all_limits_together() -> None:
    """A fall that is beyond its limit by itself is not among eight limits; one far beyond is."""
    fall = PairedFigure("score", "score", 0.8, 0.7, Estimate(-0.02, (Part(1e-4, 1e6),), 3), relative=False)
    kept = PairedFigure("nll", "nll", 0.8, 0.8, Estimate(0.0, (Part(1e-4, 1e6),), 3), relative=False)
    one = Pair("lora", "m", "t", None, 3, 3, 3, metric="score", unit="", figures=(fall, kept))
    alone = judge([limit_of("score:-0")], [one])
    assert alone[0].outcome == FAILED
    among = judge([limit_of("score:-0"), *[limit_of("nll:-0")] * 7], [one])
    assert [verdict.outcome for verdict in among] == [INCONCLUSIVE] * 8
    far = dataclasses.replace(
        one, figures=(dataclasses.replace(fall, change=Estimate(-0.1, (Part(1e-4, 1e6),), 3)), kept)
    )
    assert judge([limit_of("score:-0"), *[limit_of("nll:-0")] * 7], [far])[0].outcome == FAILED
    of_one_group = dataclasses.replace(far.figures[0].change, one_group=True)
    far = dataclasses.replace(far, figures=(dataclasses.replace(fall, change=of_one_group),))
    (undecided,) = judge([limit_of("score:-0")], [far])
    assert undecided.outcome == INCONCLUSIVE and "all test items are in one group" in undecided.reasons[0]


def test_what_one_side_lacks_in_part_is_not_passed(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run]
) -> None:
    a = runs("a")
    peak: dict[str, dict[str, Any] | None] = {"train": None, "score": None}
    b = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, memory=peak))
        if r.record.run.seed == 0
        else r
        for r in runs("b")
    ]
    (found,) = verdict(pair(a, b), "peak:+10%")
    assert (
        found.outcome == INCONCLUSIVE
        and "not measured in A and B for every seed and cell" in found.reasons[-1]
    )
    timed, slower = latency(make_run, (11.0, 11.1, 11.2)), []
    for one in timed:
        cells = [*(one.record.latency or []), {**(one.record.latency or [])[0], "length": 64}]
        slower.append(dataclasses.replace(one, record=dataclasses.replace(one.record, latency=cells)))
    assert verdict(pair([*a, *slower], [*a, *timed]), "latency:+5%")[0].outcome == INCONCLUSIVE
    other_seeds = [r for r in a if r.record.run.seed == 2]
    paired = pair([r for r in a if r.record.run.seed < 2], other_seeds)
    (found,) = judge([limit_of("accuracy:-1.0")], paired.pairs, paired.gone)
    assert found.outcome == INCONCLUSIVE and "seeds 0, 1: only in A" in found.reasons[0]


def test_counts_of_nothing_and_counts_that_seeds_change(runs: Callable[..., list[Result]]) -> None:
    def with_stored(side: str, *sizes: int) -> list[Result]:
        return [
            dataclasses.replace(r, record=dataclasses.replace(r.record, parameters={"adapter": size, "head": 2, "stored_bytes": size}))
            for r, size in zip(runs(side), sizes * 2, strict=True)
        ]  # fmt: skip

    some, none = with_stored("a", 8, 8, 8), with_stored("b", 0, 0, 0)
    for one, other, limit, outcome in (
        (some, none, "trained:+5%", PASSED),
        (some, none, "trained:-5%", FAILED),
        (none, some, "trained:+5%", FAILED),
        (none, none, "trained:+0%", PASSED),
        (some, with_stored("c", 8, 32, 32), "stored:+5%", INCONCLUSIVE),  # as AdaLoRA's, not the first seed's
    ):
        (found,) = verdict(pair(one, other), limit)
        assert found.outcome == outcome and "nan" not in found.reasons[0], (limit, found)
    (table,) = tables_of(with_stored("d", 8, 32, 32))
    assert {row.costs.of(STORED) for row in table.rows} == {32}
    assert next(axis for axis in axes_of(table) if axis.name == "stored").values[0].low is not None  # type: ignore[union-attr]
