"""What the spans of LoRAs of ranks 8 and 64 share. Hu et al. 2021, figure 3 (section 7.2), and figure 6 for all layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from peftbench import experiment
from peftbench.analysis.subspace import Floats, chance, product_svd, right_directions, similarity
from peftbench.analysis.updates import Update
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

SMALL, LARGE = 8, 64
SHARED, FALL = 0.5, 0.2  # the paper's "more than .5", and how much the first direction stands out
OF: dict[str, Callable[[Update], Floats]] = {
    "A": lambda update: right_directions(update.a),
    "A - A0": lambda update: right_directions(update.a if update.start is None else update.a - update.start),
    "dW": lambda update: product_svd(update.b, update.a)[2],
}


@experiment("figure3", title="Subspace similarity of two ranks")
def figure3(asked: Asked) -> Page:
    """Spans of rank 8 in spans of rank 64, different seeds."""
    true, shuffled = learn(asked, (SMALL, LARGE)), learn(asked, (SMALL, LARGE), shuffled=True)
    small, large = true[SMALL], true[LARGE]
    return Page(
        "Figure 3: subspaces of two ranks",
        caption(small),
        (_table(true, shuffled), *(_by_layer(true, of) for of in ("A", "dW"))),
        tuple(s for role in ROLES for s in statements(role, true, shuffled)),
        (*DIFFERS, *OF_PAIRS),
        tuple(
            Picture(
                f"phi of {of}, layer {small.middle}: rank {SMALL} (y, i) in rank {LARGE} (x, j), and the first {SMALL}",
                _picture(small, large, of),
            )
            for of in OF
        ),
    )


def phi(of: str, one: Update, other: Update) -> Floats:
    """All phi(i, j)."""
    return similarity(OF[of](one), OF[of](other))


def first(of: str, role: str, layer: int | None = None) -> Callable[[Learned, Learned], float]:
    """phi(1, 1), mean over the layers or in one."""
    return lambda a, b: float(
        np.mean([phi(of, a[m], b[m])[0, 0] for m in a if m[0] == role and layer in (None, m[1])])
    )


def stands_out(role: str) -> Callable[[Learned, Learned], float]:
    """phi(1, 1) minus the whole span's phi above chance, mean over the layers."""

    def of(a: Learned, b: Learned) -> float:
        values = []
        for matrix in (m for m in a if m[0] == role):
            grid = phi("A", a[matrix], b[matrix])
            k = min(grid.shape)
            floor = chance(grid.shape, a[matrix].a.shape[1])[k - 1, k - 1]
            values.append(grid[0, 0] - (grid[k - 1, k - 1] - floor) / (1 - floor))
        return float(np.mean(values))

    return of


def pairs(runs: dict[int, Runs], figure: Callable[[Learned, Learned], float]) -> Estimate:
    """Of the two ranks."""
    return over_pairs(runs[SMALL].by_seed, runs[LARGE].by_seed, figure)


def statements(role: str, true: dict[int, Runs], shuffled: dict[int, Runs]) -> list[Statement]:
    """Of one of the two matrices."""
    name = ROLES[role]
    top = first("A", role)
    found, control, fall = pairs(true, top), pairs(shuffled, top), pairs(true, stands_out(role))
    more = over_pairs(
        side_by_side(true[SMALL], shuffled[SMALL]),
        side_by_side(true[LARGE], shuffled[LARGE]),
        beyond_control(top),
    )
    ours, all_runs = tuple(true.values()), (*true.values(), *shuffled.values())
    return [
        Statement(
            f"The top direction of rank {SMALL} lies in that of rank {LARGE}, {name}",
            f"phi(1, 1) of A, mean over layers, is above {SHARED:g}",
            said(found) + unmoved(*ours),
            *testable(above(found, SHARED), *ours),
        ),
        Statement(
            f"What the top directions share comes from the task, {name}",
            "phi(1, 1) of A minus the same with shuffled labels is above 0, paired by seeds",
            f"{said(found)} against {said(control)}{unmoved(*all_runs)}",
            *testable(above(more, 0.0), *all_runs),
        ),
        Statement(
            f"More of the top direction is shared than of the first eight, {name}",
            f"phi(1, 1) minus phi*({SMALL}, {SMALL}) above chance is above {FALL:g}",
            said(fall) + unmoved(*ours),
            *testable(above(fall, FALL), *ours),
        ),
    ]


def said(found: Estimate) -> str:
    """A figure with its 95 % interval."""
    half = found.half_width()
    return f"{round(found.value, 2) + 0.0:.2f}" + ("" if half is None else f" ±{half:.2f}")


def _table(true: dict[int, Runs], shuffled: dict[int, Runs]) -> PageTable:
    width = next(iter(next(iter(true[SMALL].by_seed.values())).values())).a.shape[1]
    rows = [
        (
            Cell(name),
            Cell(of),
            Cell(said(pairs(true, first(of, role)))),
            Cell(said(pairs(shuffled, first(of, role)))),
            Cell(f"{1 / width:.3f}"),
        )
        for role, name in ROLES.items()
        for of in OF
    ]
    least = min(one.least_moved for one in true.values())
    return PageTable(
        f"phi(1, 1) of ranks {SMALL} and {LARGE}, mean over layers and pairs of seeds; A moved at least {least:.1f} times its start",
        ("matrix", "directions of", "true labels", "shuffled labels", "random"),
        tuple(rows),
        left=2,
    )  # fmt: skip


def _by_layer(runs: dict[int, Runs], of: str) -> PageTable:
    """As figure 6."""
    rows = [
        (Cell(name), *(Cell(said(pairs(runs, first(of, role, layer)))) for layer in runs[SMALL].layers))
        for role, name in ROLES.items()
    ]
    return PageTable(
        f"phi(1, 1) of {of} by layer, as figure 6",
        ("matrix", *(f"layer {layer}" for layer in runs[SMALL].layers)),
        tuple(rows),
    )


def _picture(small: Runs, large: Runs, of: str) -> str:
    one, other = small.by_seed[min(small.by_seed)], large.by_seed[max(large.by_seed)]
    grids = {role: phi(of, one[role, small.middle], other[role, small.middle]) for role in ROLES}
    panels = []
    for zoomed in (False, True):
        for role, name in ROLES.items():
            grid = grids[role].copy()
            if zoomed:
                grid = grid[:, : len(grid)]
                grid[np.triu_indices(len(grid), 1)] = np.nan  # the lower left triangle, as the figure has it
            panels.append(
                Panel(
                    f"d{name}" + (", zoomed" if zoomed else ""),
                    grid,
                    tuple(str(j + 1) for j in range(grid.shape[1])),
                    tuple(str(i + 1) for i in range(grid.shape[0])),
                    "j",
                    "i",
                )
            )
    return heat_maps([panels], 0.0, 1.0, "viridis", "phi(i, j)")
