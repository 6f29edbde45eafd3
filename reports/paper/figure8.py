"""Whether an update's directions are W's own top ones. Hu et al. 2021, figure 8 (appendix H.4)."""

from __future__ import annotations

import numpy as np

from peftbench import experiment, stats
from peftbench.analysis.subspace import Floats, above_chance, right_directions, similarity
from peftbench.analysis.updates import Update
from peftbench.columns import Cell
from peftbench.paper import Asked, Page, PageTable, Picture, Statement, above
from peftbench.stats import Estimate

from ._drawing import Panel, heat_maps
from ._spaces import DIFFERS, Runs, caption, learn
from .figure3 import said

RANKS = (4, 8, 64)
ROLE = "query"
FROM, TO = 451 / 12288, 1176 / 12288  # the figure's directions of Wq, as shares of its width
WEAK = 0.5  # of dW's top 4 directions inside W's top tenth; the figure has "barely .2" where chance is .1


@experiment("figure8", title="Whether an update repeats the weights' top directions")
def figure8(asked: Asked) -> Page:
    """phi of Wq's top directions and A's."""
    runs = learn(asked, RANKS)
    width = _width(runs[RANKS[0]])
    return Page(
        "Figure 8: an update's directions among the weights' top ones",
        caption(runs[RANKS[0]]),
        (_table(runs, width),),
        tuple(statements(runs, width)),
        (*DIFFERS, "The paper's scale of colours, .10 to .20, is for a width of 12,288; here it reaches from half of chance to its threefold."),
        (Picture(f"phi of Wq's top directions (y, i) and A's (x, j), layer {runs[RANKS[0]].middle}", _picture(runs, width)),),
    )  # fmt: skip


def grid(update: Update) -> Floats:
    """phi(i, j) of W's and A's right-singular vectors, all i and j."""
    assert update.weight is not None
    return similarity(right_directions(update.weight), right_directions(update.a))


def in_top_tenth(runs: Runs, width: int, rank: int) -> Estimate:
    """phi(a tenth of the width, rank), mean over layers and then seeds."""
    i = max(1, round(TO * width))
    values = [
        float(np.mean([_at(grid(u), i, rank) for m, u in learned.items() if m[0] == ROLE]))
        for learned in runs.by_seed.values()
    ]
    return stats.mean(values)


def _at(phi: Floats, i: int, j: int) -> float:
    """phi(i, j), or its last where there are fewer directions."""
    return float(phi[min(i, phi.shape[0]) - 1, min(j, phi.shape[1]) - 1])


def excess(runs: Runs, width: int) -> Estimate:
    """phi(a tenth of the width, all) above chance, mean over layers and then seeds."""
    i = max(1, round(TO * width))
    values = [
        float(np.mean([above_chance(grid(u), width)[i - 1, -1] for m, u in learned.items() if m[0] == ROLE]))
        for learned in runs.by_seed.values()
    ]
    return stats.mean(values)


def statements(runs: dict[int, Runs], width: int) -> list[Statement]:
    """Weak, above random, more at a larger rank."""
    weak = in_top_tenth(runs[RANKS[0]], width, 4)
    made = [
        Statement(
            "dW's directions are not W's top ones",
            f"phi of Wq's top tenth and A's four directions (r = 4) is below {WEAK:g}; the limit is ours",
            f"{said(weak)}, at random {TO:.2f}",
            *above(stats.Estimate(-weak.value, weak.variance, weak.df, weak.seeds), -WEAK),
        )
    ]
    for rank in (RANKS[0], RANKS[-1]):
        found = excess(runs[rank], width)
        made.append(
            Statement(
                f"They have more to do with them than random directions, r = {rank}",
                "phi of Wq's top tenth and A's span above chance is above 0",
                said(found),
                *above(found, 0.0),
            )
        )
    more = stats.apart(excess(runs[RANKS[-1]], width), excess(runs[RANKS[0]], width))
    made.append(
        Statement(
            "A larger rank has more of W's top directions",
            f"the same at r = {RANKS[-1]} minus that at r = {RANKS[0]}, both above chance, is above 0",
            f"{said(more)}; chance not taken off, {said(in_top_tenth(runs[RANKS[-1]], width, RANKS[-1]))} and {said(in_top_tenth(runs[RANKS[0]], width, RANKS[0]))}",
            *above(more, 0.0),
        )
    )
    return made


def _width(runs: Runs) -> int:
    return int(next(iter(next(iter(runs.by_seed.values())).values())).a.shape[1])


def _table(runs: dict[int, Runs], width: int) -> PageTable:
    i = max(1, round(TO * width))
    rows = [
        (
            Cell(f"r = {rank}"),
            Cell(said(in_top_tenth(runs[rank], width, 1))),
            Cell(said(in_top_tenth(runs[rank], width, 4))),
            Cell(said(in_top_tenth(runs[rank], width, rank))),
            Cell(f"{max(i, rank) / width:.2f}"),
            Cell(said(excess(runs[rank], width))),
        )
        for rank in RANKS
    ]
    return PageTable(
        f"phi of Wq's top {i} directions (a tenth of {width}) and A's, mean over layers",
        ("", "A's first", "first 4", "all", "at random", "all, above chance"),
        tuple(rows),
    )


def _picture(runs: dict[int, Runs], width: int) -> str:
    low, high = max(1, round(FROM * width)), max(2, round(TO * width))
    shown: dict[str, Floats] = {}
    for rank in RANKS:
        learned = runs[rank].by_seed[min(runs[rank].by_seed)]
        shown[f"r = {rank}"] = grid(learned[ROLE, runs[rank].middle])[low - 1 : high]
    one = runs[RANKS[0]]
    weight = one.by_seed[min(one.by_seed)][ROLE, one.middle].weight
    assert weight is not None
    random = right_directions(np.random.default_rng(0).standard_normal((RANKS[-1], width)))
    shown["random"] = similarity(right_directions(weight), random)[low - 1 : high]
    panels = [
        Panel(
            name,
            values,
            tuple(str(j + 1) for j in range(values.shape[1])),
            tuple(str(i) for i in range(low, high + 1)),
            "j",
            "i",
        )
        for name, values in shown.items()
    ]
    return heat_maps([panels], TO / 2, TO * 3, "viridis", "phi(i, j)")
