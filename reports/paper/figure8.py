"""Whether an update's directions are W's own top ones. Hu et al. 2021, figure 8 (appendix H.4)."""

from __future__ import annotations

import dataclasses

import numpy as np

from peftbench import experiment
from peftbench.analysis.subspace import Floats, right_directions, similarity
from peftbench.analysis.updates import Update
from peftbench.experiments.page import Asked, Page, PageTable, Picture, Statement, above
from peftbench.render.columns import Cell
from peftbench.stats.estimate import Estimate, mean_estimate

from ._drawing import Panel, heat_maps
from ._spaces import DIFFERS, Runs, caption, learn, testable, unmoved
from .figure3 import said

RANKS = (4, 8, 64)
ROLE = "query"
FROM, TO = 451 / 12288, 1176 / 12288  # the figure's directions of Wq, as shares of its width
FIRST = 4  # of A's directions, which every rank has
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
        (*DIFFERS, "The paper's scale of colours, .10 to .20, is for a width of 12,288; here it reaches from half of chance to three times chance."),
        (Picture(f"phi of Wq's top directions (y, i) and A's (x, j), layer {runs[RANKS[0]].middle}", _picture(runs, width)),),
    )  # fmt: skip


def grid(update: Update) -> Floats:
    """phi(i, j) of W's and A's right-singular vectors, all i and j."""
    assert update.weight is not None
    return similarity(right_directions(update.weight), right_directions(update.a))


def by_seed(runs: Runs, width: int, j: int) -> dict[int, float]:
    """phi(a tenth of the width, j), mean over layers: the share of A's first j directions inside W's top tenth."""
    i = top_tenth(width)
    return {
        seed: float(np.mean([_at(grid(u), i, j) for m, u in learned.items() if m[0] == ROLE]))
        for seed, learned in runs.by_seed.items()
    }


def top_tenth(width: int) -> int:
    """Directions of W."""
    return max(1, round(TO * width))


def in_top_tenth(runs: Runs, width: int, j: int) -> Estimate:
    """The same, over seeds."""
    return mean_estimate(list(by_seed(runs, width, j).values()))


def _at(phi: Floats, i: int, j: int) -> float:
    """phi(i, j), or its last where there are fewer directions."""
    return float(phi[min(i, phi.shape[0]) - 1, min(j, phi.shape[1]) - 1])


def statements(runs: dict[int, Runs], width: int) -> list[Statement]:
    """Weak, above random, more at a larger rank. Four of A's directions each time: phi of more than i counts W's directions instead."""
    low, high = runs[RANKS[0]], runs[RANKS[-1]]
    chance = top_tenth(width) / width
    weak = in_top_tenth(low, width, FIRST)
    made = [
        Statement(
            "dW's directions are not W's top ones",
            f"less than {WEAK:g} of A's first {FIRST} directions (r = {RANKS[0]}) lies in W's top tenth; the limit is ours",
            f"{said(weak)}, at random {chance:.2f}{unmoved(low)}",
            *testable(above(dataclasses.replace(weak, value=-weak.value), -WEAK), low),
        )
    ]
    for rank in (RANKS[0], RANKS[-1]):
        found = in_top_tenth(runs[rank], width, FIRST)
        made.append(
            Statement(
                f"They have more to do with them than random directions, r = {rank}",
                f"the share of A's first {FIRST} directions in W's top tenth is above chance",
                f"{said(found)}, at random {chance:.2f}{unmoved(runs[rank])}",
                *testable(above(found, chance), runs[rank]),
            )
        )
    of_low, of_high = by_seed(low, width, FIRST), by_seed(high, width, FIRST)
    more = mean_estimate([of_high[s] - of_low[s] for s in of_low if s in of_high])
    made.append(
        Statement(
            "A larger rank has more of W's top directions",
            f"the share of A's first {FIRST} at r = {RANKS[-1]} minus that at r = {RANKS[0]}, paired by seed, is above 0",
            said(more) + unmoved(low, high),
            *testable(above(more, 0.0), low, high),
        )
    )
    return made


def _width(runs: Runs) -> int:
    return int(next(iter(next(iter(runs.by_seed.values())).values())).a.shape[1])


def _table(runs: dict[int, Runs], width: int) -> PageTable:
    i = top_tenth(width)
    rows = [
        (
            Cell(f"r = {rank}"),
            *(Cell(said(in_top_tenth(runs[rank], width, j))) for j in (1, FIRST)),
            Cell(f"{i / width:.2f}"),
            Cell(said(in_top_tenth(runs[rank], width, rank))),
            Cell(f"{max(i, rank) / width:.2f}"),
        )
        for rank in RANKS
    ]
    return PageTable(
        f"phi of Wq's top {i} directions ({i / width:.1%} of {width}) and A's, mean over layers",
        ("", "A's first", f"first {FIRST}", f"at random, up to {FIRST}", "all", "at random, all"),
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
