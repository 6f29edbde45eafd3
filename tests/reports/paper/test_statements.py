"""Every statement of every experiment that trains or times, on two made-up sets of figures: one confirms it, the other contradicts it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from peftbench.reports.paper import (
    figure3,
    figure4,
    figure8,
    seed,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table15,
    table16,
    table18,
)
from peftbench.reports.paper._scored import Scored, statement
from peftbench.reports.paper._spaces import Runs, over_pairs

from peftbench.analysis.subspace import Floats
from peftbench.analysis.updates import Update
from peftbench.experiments.page import (
    CONFIRMED,
    CONTRADICTED,
    NOT_TESTABLE,
    UNDECIDED,
    picked,
)

from ...support.scored import scored, verdicts


def both_ways(of: Callable[[Scored], Any], good: Mapping[str, float], bad: Mapping[str, float]) -> None:
    assert verdicts(of(scored(good))) == {CONFIRMED}
    assert verdicts(of(scored(bad))) == {CONTRADICTED}


def test_table2() -> None:
    others = [table2.FULL, table2.BITFIT, *table2.ADAPTERS]
    both_ways(
        lambda one: table2.statements("t", one),
        {table2.LORA: 0.9, **dict.fromkeys(others, 0.8)},
        {table2.LORA: 0.7, **dict.fromkeys(others, 0.8)},
    )


def test_table3() -> None:
    arms = table3.arms_of("cpu")
    others = [arm.label for arm in arms if arm.label != table3.LORA]
    both_ways(
        lambda one: table3.statements("t", one, arms),
        {table3.LORA: 0.5, **dict.fromkeys(others, 0.4)},
        {table3.LORA: 0.3, **dict.fromkeys(others, 0.4)},
    )


def test_table4() -> None:
    good = {table4.FULL: 0.8, table4.LORA: 0.8, table4.LORA_LARGE: 0.8, "PreEmbed": 0.7, "PreLayer": 0.7}
    bad = {table4.FULL: 0.9, table4.LORA: 0.7, table4.LORA_LARGE: 0.8, "PreEmbed": 0.9, "PreLayer": 0.9}
    both_ways(lambda one: table4.statements("t", one), good, bad)


def test_table5() -> None:
    good = {"Wq, r = 8": 0.7, "Wk, r = 8": 0.7, "Wv, r = 8": 0.72, "Wo, r = 8": 0.7, "Wq Wk, r = 4": 0.7, "Wq Wv, r = 4": 0.74, "all four, r = 2": 0.74}  # fmt: skip
    bad = {**good, "Wq Wv, r = 4": 0.6, "all four, r = 2": 0.6}
    both_ways(lambda one: table5.statements("t", one), good, bad)


def test_table6() -> None:
    def levels(low: float, high: float, q: float) -> Scored:
        found = {
            table6.label_of(table6.QV, r, tuned): {1: low, 64: high}.get(r, 0.7)
            for r in table6.RANKS
            for tuned in (False, True)
        }
        return scored({**found, **{table6.label_of(table6.Q, r): q if r == 1 else 0.7 for r in table6.RANKS}})

    for one, said in ((levels(0.7, 0.7, 0.6), CONFIRMED), (levels(0.6, 0.8, 0.8), CONTRADICTED)):
        assert verdicts(table6.statements("t", one, one, "cpu")) == {said}  # fmt: skip


def test_table15() -> None:
    def levels(last_prefix: float, first: float, last: float) -> dict[str, float]:
        found = {}
        for name in table15.SWEEPS:
            sizes = table15.sizes_of(name, "cpu")
            for size in sizes:
                prefix = name in table15.PREFIXES
                value = (
                    last_prefix
                    if prefix and size == sizes[-1]
                    else 0.6
                    if prefix
                    else first
                    if size == sizes[0]
                    else last
                )
                found[table15.label_of(name, size)] = value
        return found

    both_ways(lambda one: table15.statements(one, "cpu"), levels(0.5, 0.7, 0.7), levels(0.9, 0.7, 0.6))


def test_table16() -> None:
    names = (table16.FULL, table16.EMBED, table16.LAYER, table16.LORA)
    good, bad = (
        {table16.label_of(name, 100): value for name, value in zip(names, values, strict=True)}
        for values in ((0.6, 0.4, 0.5, 0.65), (0.6, 0.6, 0.5, 0.4))
    )
    both_ways(lambda one: table16.statements(one, 100), good, bad)


def test_table18() -> None:
    ranks = table18.RANKS["cpu"]
    for score, loss, said in (
        ({}, {1: 2.0}, CONFIRMED),
        ({64: 0.6, 256: 0.6}, {1: 0.5}, CONTRADICTED),
    ):
        one = scored(
            {table18.label_of(r): score.get(r, 0.5) for r in ranks},
            {table18.label_of(r): loss.get(r, 1.0) for r in ranks},
        )
        assert verdicts(table18.statements("t", one, ranks)) == {said}


def test_a_cell_whose_runs_failed_is_not_testable() -> None:
    one = scored({table3.LORA: 0.5})
    assert verdicts(table3.statements("t", one, table3.arms_of("cpu"))) == {NOT_TESTABLE}
    assert statement("s", "t", None, lambda e: (0.0, 1.0)).p_true is None
    assert one.cell("FT").text == "–"


def test_what_was_picked_on_the_scores_that_judge_it_costs() -> None:
    assert picked((0.02, 0.98), confirms=3) == (0.06, 0.98)
    assert picked((0.98, 0.02), contradicts=4) == (0.98, 0.08)
    assert picked((0.5, 0.5), 3, 3) == (1.0, 1.0) and picked((None, None), 3) == (None, None)


WIDTH = 96


def updates(
    rank: int, shared: Mapping[str, int], start: float = 0.001, weight: Floats | None = None, seeds: int = 4
) -> Runs:
    """Runs whose A share their strongest `shared[role]` directions over all seeds and ranks; the others are random."""
    common = np.linalg.qr(np.random.default_rng(7).standard_normal((WIDTH, 8)))[0].T
    by_seed = {}
    for number in range(seeds):
        draw = np.random.default_rng((rank, number))
        learned = {}
        for layer in range(2):
            for role, count in shared.items():
                own = draw.standard_normal((rank, WIDTH)) / math.sqrt(WIDTH)
                own[:count] = common[:count]
                strength = np.r_[100, np.geomspace(10, 1, rank - 1)][:, None]
                a = strength * own
                b = draw.standard_normal((WIDTH, rank))
                learned[role, layer] = Update(
                    f"{role} {layer}", role, layer, a, b, weight, start * draw.standard_normal(a.shape)
                )
        by_seed[number] = learned
    return Runs(by_seed, scored({"a": 0.5}))  # fmt: skip


def test_figure3() -> None:
    one, none = {"query": 1, "value": 1}, {"query": 0, "value": 0}
    true = {rank: updates(rank, one) for rank in (figure3.SMALL, figure3.LARGE)}
    nothing = {rank: updates(rank, none) for rank in (figure3.SMALL, figure3.LARGE)}
    assert verdicts(figure3.statements("query", true, nothing)) == {CONFIRMED}
    shown, control, fall = figure3.statements("query", nothing, true)
    assert verdicts([shown, control, fall]) == {CONTRADICTED}
    still = {rank: updates(rank, one, start=1.0) for rank in (figure3.SMALL, figure3.LARGE)}
    assert verdicts(figure3.statements("query", still, nothing)) == {NOT_TESTABLE}


def test_figure4() -> None:
    much = updates(figure4.RANK, {"query": 8, "value": 1})
    little = updates(figure4.RANK, {"query": 0, "value": 0})
    assert verdicts(figure4.statements(much, little)[:2]) == {CONFIRMED}
    turned = updates(figure4.RANK, {"query": 1, "value": 8})
    alike = updates(figure4.RANK, {"query": 8, "value": 8})
    more, query, _ = figure4.statements(turned, alike)
    _, _, value = figure4.statements(much, alike)
    assert verdicts([more, query, value]) == {CONTRADICTED}
    still = updates(figure4.RANK, {"query": 8, "value": 1}, start=1.0)
    assert verdicts(figure4.statements(still, little)) == {NOT_TESTABLE}
    assert verdicts(
        figure4.statements(much, updates(figure4.RANK, {"query": 0, "value": 0}, start=1.0))[1:]
    ) == {NOT_TESTABLE}


def test_the_error_over_pairs_is_that_of_the_seeds() -> None:
    """A figure that depends on one seed of each pair: its mean is the seeds' mean, its jackknife about their standard error."""
    values = np.random.default_rng(0).standard_normal(8)
    learned: Any = {s: float(v) for s, v in enumerate(values)}
    found = over_pairs(learned, learned, lambda a, b: (a + b) / 2)
    assert found.value == pytest.approx(values.mean()) and found.parts and found.parts[0].df == 7
    assert found.variance == pytest.approx(values.var(ddof=1) / 8, rel=1e-6)
    assert over_pairs({0: learned[0]}, {1: learned[1]}, lambda a, b: 1.0).variance is None


def projected(draw: np.random.Generator, kappa: float, share: float) -> Any:
    """A matrix whose figures are about these."""
    noise = 1 + 0.01 * float(draw.standard_normal())
    return table7.Projected(kappa * noise, kappa / share, 1.0, 1.0, 10.0, 2.0)


@pytest.mark.parametrize(
    ("small", "large", "share", "said"), [(4.0, 2.0, 0.05, CONFIRMED), (0.5, 0.9, 0.4, CONTRADICTED)]
)
def test_table7(small: float, large: float, share: float, said: str) -> None:
    draw = np.random.default_rng(0)
    found = {
        rank: {s: {("query", 0): projected(draw, kappa, share)} for s in range(5)}
        for rank, kappa in zip(table7.RANKS, (small, large), strict=True)
    }
    moved = {rank: updates(rank, {"query": 0}, seeds=2) for rank in table7.RANKS}
    judged = table7.statements(found, moved)
    shares = [one for one in judged if one.says.startswith("dW does not repeat")]
    assert verdicts([one for one in judged if one not in shares]) == {said}
    assert verdicts(shares) == {
        CONFIRMED if share < table7.SMALL_SHARE else NOT_TESTABLE
    }  # random: share / kappa
    still = {rank: updates(rank, {"query": 0}, start=1.0, seeds=2) for rank in table7.RANKS}
    assert verdicts(table7.statements(found, still)) == {NOT_TESTABLE}  # fmt: skip


def test_what_an_update_repeats_is_judged_where_random_directions_repeat_less() -> None:
    draw = np.random.default_rng(0)
    found = {rank: {s: {("query", 0): projected(draw, 8.0, 0.4)} for s in range(5)} for rank in table7.RANKS}
    moved = {rank: updates(rank, {"query": 0}, seeds=2) for rank in table7.RANKS}
    judged = [one for one in table7.statements(found, moved) if one.says.startswith("dW does not repeat")]
    assert verdicts(judged) == {CONTRADICTED} and "random directions 5.0%" in judged[0].evidence


def test_projections_of_a_constructed_update() -> None:
    """W is 3 on one pair of directions and 1 on all others; an update on that pair finds it, random ones do not."""
    draw = np.random.default_rng(0)
    u, v = (np.linalg.qr(draw.standard_normal((40, 40)))[0] for _ in range(2))
    weight = (u * np.array([3.0] + [1.0] * 39)) @ v.T
    update = Update("w", "query", 0, v[:, :1].T, u[:, :1], weight)
    found = table7.project(update, draw)
    assert found.on_update == pytest.approx(3) and found.on_weight == pytest.approx(3)
    assert found.share_below == 1.0 and found.kappa > 5 and found.update_norm == pytest.approx(1)


def test_figure8() -> None:
    draw = np.random.default_rng(0)
    u, v = (np.linalg.qr(draw.standard_normal((WIDTH, WIDTH)))[0] for _ in range(2))
    weight = (u * np.geomspace(10, 0.1, WIDTH)) @ v.T

    def runs(directions: Mapping[int, Floats]) -> dict[int, Runs]:
        found = {}
        for rank, rows in directions.items():
            one = updates(rank, {"query": 0}, weight=weight, seeds=3)
            for number, learned in one.by_seed.items():
                noise = np.random.default_rng(number).standard_normal((rank, WIDTH)) * 1e-3
                for matrix, update in list(learned.items()):
                    strong = np.linspace(2, 1, rank)[:, None] * rows[:rank] + noise
                    learned[matrix] = Update(
                        update.name, "query", matrix[1], strong, update.b, weight, 0.001 * noise
                    )
            found[rank] = one
        return found

    def rows(first: Floats) -> dict[int, Floats]:
        return {rank: np.vstack([first, v[:, 20 : 20 + rank - 4].T]) for rank in figure8.RANKS}

    few, many, none = (np.vstack([v[:, :n].T, v[:, -(4 - n) :].T]) if n else v[:, -4:].T for n in (1, 2, 0))
    low, high = runs(rows(few)), runs(rows(many))
    assert verdicts(figure8.statements({**low, 64: high[64]}, WIDTH)) == {CONFIRMED}
    assert verdicts(figure8.statements(runs(rows(none)), WIDTH)[1:3]) == {CONTRADICTED}  # less than at random
    top = runs(rows(v[:, :4].T))
    assert verdicts([figure8.statements({**top, 64: low[64]}, WIDTH)[i] for i in (0, 3)]) == {CONTRADICTED}


def kept(levels: Mapping[str, float]) -> seed.Kept:
    draw = np.random.default_rng(0)
    scores = {
        n: {s: level + 0.01 * draw.standard_normal(200) for s in range(5)} for n, level in levels.items()
    }
    return seed.Kept(scores, np.arange(200).astype(str))


def test_seed_statements() -> None:
    def both(eight: float, one: float, random: float) -> dict[str, seed.Kept]:
        full = kept({seed.NOTHING: 0.1, "8": eight, seed.WHOLE: 0.6})
        return {
            seed.FULL: full,
            seed.LORA: kept({seed.NOTHING: 0.1, "1": one, seed.RANDOM: random, seed.WHOLE: 0.6}),
        }

    assert verdicts(seed.of_directions(both(0.58, 0.55, 0.12), 100)) == {CONFIRMED}
    assert verdicts(seed.of_directions(both(0.3, 0.3, 0.5), 100)) == {CONTRADICTED}
    assert verdicts(seed.of_directions(both(0.5, 0.5, 0.2), 100)) == {UNDECIDED}
    nothing = {
        label: kept(dict.fromkeys((seed.NOTHING, "1", "8", seed.RANDOM, seed.WHOLE), 0.5))
        for label in (seed.FULL, seed.LORA)
    }
    assert verdicts(seed.of_directions(nothing, 100)) == {NOT_TESTABLE}  # shares of no gain
    assert [verdicts([seed.of_rank(off)]) for off in (1e-6, 1e-2)] == [{CONFIRMED}, {CONTRADICTED}]
    assert verdicts(seed.of_lengths({"lora": (512, 512), "prefix": (496, 512)})) == {CONFIRMED}
    assert verdicts(seed.of_lengths({"lora": (500, 512), "prefix": (512, 512)})) == {CONTRADICTED}
    assert [verdicts(seed.of_switching({"float32": (off, 0.0)})) for off in (0.01, 0.5)] == [{CONFIRMED}, {CONTRADICTED}]  # fmt: skip
