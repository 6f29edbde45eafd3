"""What the spans of two seeds share, with random matrices as the control. Hu et al. 2021, figure 4 (section 7.2) and figure 7."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from peftbench import experiment
from peftbench.analysis.subspace import above_chance, right_directions, similarity
from peftbench.experiments.page import Asked, Page, PageTable, Picture, Statement, above
from peftbench.render.columns import Cell
from peftbench.stats.estimate import Estimate

from ._drawing import Panel, heat_maps
from ._spaces import (
    DIFFERS,
    OF_PAIRS,
    ROLES,
    Learned,
    Runs,
    beyond_control,
    caption,
    learn,
    over_pairs,
    side_by_side,
    testable,
    unmoved,
)
from .figure3 import OF, phi, said

RANK = 64


@experiment("figure4", title="Subspace similarity of two seeds, with a Gaussian control")
def figure4(asked: Asked) -> Page:
    """Spans of rank 64 of different seeds."""
    true, shuffled = learn(asked, (RANK,))[RANK], learn(asked, (RANK,), shuffled=True)[RANK]
    return Page(
        "Figure 4: subspaces of two seeds",
        caption(true),
        (_table(true, shuffled),),
        tuple(statements(true, shuffled)),
        (*DIFFERS, *OF_PAIRS),
        tuple(
            Picture(f"phi of {of}, layer {true.middle}, two seeds of rank {RANK}, and two random Gaussian matrices", _picture(true, of))
            for of in ("A", "dW")
        ),
    )  # fmt: skip


def shared(of: str, role: str) -> Callable[[Learned, Learned], float]:
    """phi(j, j) above chance, mean over j and the layers: how much of the leading directions two runs share."""

    def figure(a: Learned, b: Learned) -> float:
        values = []
        for matrix in (m for m in a if m[0] == role):
            grid = phi(of, a[matrix], b[matrix])
            values.append(np.mean(np.diagonal(above_chance(grid, a[matrix].a.shape[1]))))
        return float(np.mean(values))

    return figure


def _pairs(runs: Runs, figure: Callable[[Learned, Learned], float]) -> Estimate:
    return over_pairs(runs.by_seed, runs.by_seed, figure)


def statements(true: Runs, shuffled: Runs) -> list[Statement]:
    """On A."""
    query, value = shared("A", "query"), shared("A", "value")
    more = _pairs(true, lambda a, b: query(a, b) - value(a, b))
    made = [
        Statement(
            "dWq has a higher intrinsic rank than dWv: two seeds share more directions of it",
            "phi(j, j) above chance, mean over j and layers, of Wq minus that of Wv is above 0",
            said(more) + unmoved(true),
            *testable(above(more, 0.0), true),
        )
    ]
    for role, name in ROLES.items():
        figure, both = shared("A", role), side_by_side(true, shuffled)
        found, control = _pairs(true, figure), _pairs(shuffled, figure)
        gain = over_pairs(both, both, beyond_control(figure))
        made.append(
            Statement(
                f"Two seeds share directions that the task gives, {name}",
                "phi(j, j) above chance, mean over j and layers, minus the same with shuffled labels is above 0, paired by seeds",
                f"{said(found)} against {said(control)}{unmoved(true, shuffled)}",
                *testable(above(gain, 0.0), true, shuffled),
            )
        )
    return made


def _gaussian(width: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    one, other = (right_directions(draw.standard_normal((RANK, width))) for _ in range(2))
    return similarity(one, other)


def _width(runs: Runs) -> int:
    return int(next(iter(next(iter(runs.by_seed.values())).values())).a.shape[1])


def _table(true: Runs, shuffled: Runs) -> PageTable:
    width = _width(true)
    control = float(np.mean(np.diagonal(above_chance(_gaussian(width), width))))
    rows = [
        (
            Cell(name),
            Cell(of),
            Cell(said(_pairs(true, shared(of, role)))),
            Cell(said(_pairs(shuffled, shared(of, role)))),
            Cell(f"{control:.2f}"),
        )
        for role, name in ROLES.items()
        for of in OF
    ]
    return PageTable(
        f"phi(j, j) above chance, mean over j = 1..{RANK} and layers; A moved at least {true.least_moved:.1f} times its start",
        ("matrix", "directions of", "true labels", "shuffled labels", "two Gaussian matrices"),
        tuple(rows),
        left=2,
    )


def _picture(runs: Runs, of: str) -> str:
    seeds = sorted(runs.by_seed)
    one, other = runs.by_seed[seeds[0]], runs.by_seed[seeds[-1]]
    grids = {
        f"d{name}": phi(of, one[role, runs.middle], other[role, runs.middle]) for role, name in ROLES.items()
    }
    grids["random Gaussian"] = _gaussian(_width(runs))
    panels = [
        Panel(
            name,
            grid,
            tuple(str(j + 1) for j in range(grid.shape[1])),
            tuple(str(i + 1) for i in range(grid.shape[0])),
            "j",
            "i",
        )
        for name, grid in grids.items()
    ]
    return heat_maps([panels], 0.0, 0.5, "viridis", "phi(i, j)")  # fmt: skip
