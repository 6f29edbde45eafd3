"""How an update relates to the weights it is added to. Hu et al. 2021, table 7 (section 7.3, appendix H.4).

The amplification factor grows with the length of training, and that of r = 4 exceeds that of r = 64 for any update whose norm does not
fall as fast as its span widens: it is printed and not judged. What is judged is kappa, how much more of W lies in the update's directions
than in as many random ones.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from peftbench import experiment
from peftbench.analysis.projection import amplification, own_projected_norm, projected_norm, random_directions
from peftbench.analysis.subspace import product_svd
from peftbench.analysis.updates import Update
from peftbench.experiments.page import Asked, Page, PageTable, Statement, above
from peftbench.render.columns import MISSING, Cell
from peftbench.stats.estimate import Estimate, mean_estimate

from ._spaces import DIFFERS, Matrix, Runs, caption, learn, testable, unmoved

RANKS = (4, 64)
DRAWS = 1000  # random pairs of directions a matrix
SMALL_SHARE = 0.10  # of what W has in its own top directions
ROLE = "query"
PRINTED = {  # projected norm of W on dW, W and random directions; norms of W and dW; amplification
    4: ("0.32", "21.67", "0.02", "61.95", "6.91", "21.5"),
    64: ("1.90", "37.71", "0.33", "61.95", "3.57", "1.9"),
}


@dataclass(frozen=True)
class Projected:
    """Norms of one weight matrix on an update's directions, on its own and on random ones."""

    on_update: float
    on_weight: float
    on_random: float  # mean of the draws
    share_below: float  # of the draws that lie below the update's
    weight_norm: float
    update_norm: float

    @property
    def kappa(self) -> float:
        return self.on_update / self.on_random


def project(update: Update, draw: np.random.Generator) -> Projected:
    """Of an update whose weight is known."""
    assert update.weight is not None
    weight = update.weight
    u, values, v = product_svd(update.b, update.a)
    rank = len(values)
    on_update = projected_norm(weight, u, v)
    drawn = np.array(
        [
            projected_norm(
                weight,
                random_directions(draw, weight.shape[0], rank),
                random_directions(draw, weight.shape[1], rank),
            )
            for _ in range(DRAWS)
        ]
    )
    return Projected(
        on_update,
        own_projected_norm(weight, rank),
        float(drawn.mean()),
        float((drawn < on_update).mean()),
        float(np.linalg.norm(weight)),
        float(np.linalg.norm(values)),
    )


@experiment("table7", title="How an update relates to the weights: projected norms and amplification")
def table7(asked: Asked) -> Page:
    """Projected norms of Wq, ranks 4 and 64."""
    runs = learn(asked, RANKS)
    found = {rank: _all(asked, runs[rank], rank) for rank in RANKS}
    middle = runs[RANKS[0]].middle
    return Page(
        "Table 7: an update beside its weights",
        caption(runs[RANKS[0]]),
        (_table(found, middle), _by_layer(found)),
        tuple(statements(found, runs)),
        (
            *DIFFERS,
            "dW is B A times alpha / r; the paper does not say whether its dW is.",
            f"The paper's random column is one draw; here {DRAWS:,} pairs of directions are drawn for each matrix.",
            "Amplification grows with the length of training and is larger at small ranks by construction: printed, not judged.",
        ),
    )


Found = dict[int, dict[Matrix, Projected]]  # by seed


def _all(asked: Asked, runs: Runs, rank: int) -> Found:
    draw = np.random.default_rng(0)
    found: Found = {}
    for seed, learned in runs.by_seed.items():
        asked.say(f"projecting rank {rank}, seed {seed}")
        found[seed] = {
            matrix: project(update, draw) for matrix, update in learned.items() if matrix[0] == ROLE
        }
    return found


def over_seeds(found: Found, figure: str) -> Estimate:
    """The mean over seeds of a figure's mean over the matrices: "kappa" as a logarithm, "share", or "random", what as many random directions share."""
    return mean_estimate(
        [float(np.mean([_figure(one, figure) for one in of.values()])) for of in found.values()]
    )


def _figure(one: Projected, figure: str) -> float:
    if figure == "kappa":
        return math.log(one.kappa)
    return (one.on_random if figure == "random" else one.on_update) / one.on_weight


def statements(found: dict[int, Found], runs: dict[int, Runs]) -> list[Statement]:
    """By rank, and of the two ranks."""
    made = []
    for rank in RANKS:
        kappa, share = over_seeds(found[rank], "kappa"), over_seeds(found[rank], "share")
        chance = over_seeds(found[rank], "random").value
        low = above(dataclasses.replace(share, value=-share.value), -SMALL_SHARE)
        below = np.mean([one.share_below for of in found[rank].values() for one in of.values()])
        made.append(
            Statement(
                f"dW lies in directions in which W is stronger than at random, r = {rank}",
                f"kappa, mean over layers, is above 1: W's norm on dW's directions over that on random ones ({DRAWS:,} pairs a matrix)",
                f"kappa {math.exp(kappa.value):.2f}, above {below:.0%} of the random pairs (the paper: {float(PRINTED[rank][0]) / float(PRINTED[rank][2]):.1f}){unmoved(runs[rank])}",
                *testable(above(kappa, 0.0), runs[rank]),
            )
        )
        made.append(
            Statement(
                f"dW does not repeat W's top directions, r = {rank}",
                f"W's norm on dW's directions is less than {SMALL_SHARE:.0%} of that on its own top ones; testable where it is on random ones",
                f"{share.value:.1%}, as many random directions {chance:.1%} (the paper: {float(PRINTED[rank][0]) / float(PRINTED[rank][1]):.1%})",
                *(testable(low, runs[rank]) if chance < SMALL_SHARE else (None, None)),
            )
        )  # fmt: skip
    seeds = [seed for seed in found[RANKS[0]] if seed in found[RANKS[1]]]
    logs = [
        [float(np.mean([math.log(one.kappa) for one in found[rank][seed].values()])) for rank in RANKS]
        for seed in seeds
    ]
    fall = mean_estimate([low - high for low, high in logs])
    made.append(
        Statement(
            "A small rank picks out the directions that W has more of than a large one does",
            f"kappa at r = {RANKS[0]} over kappa at r = {RANKS[1]}, paired by seed, is above 1",
            f"{math.exp(fall.value):.2f} (the paper: 16 over 5.8)",
            *testable(above(fall, 0.0), *runs.values()),
        )
    )
    return made


def _table(found: dict[int, Found], layer: int) -> PageTable:
    """In the paper's layout, of the middle layer, mean over the seeds."""
    rows = []
    for rank in RANKS:
        of = [one[ROLE, layer] for one in found[rank].values()]
        norms = [
            float(np.mean([getattr(one, name) for one in of]))
            for name in ("on_update", "on_weight", "on_random", "weight_norm", "update_norm")
        ]
        factor = float(np.mean([amplification(one.update_norm, one.on_update) for one in of]))
        rows.append((Cell(f"r = {rank}"), *(Cell(f"{norm:.2f}") for norm in norms), Cell(f"{factor:.1f}")))
        rows.append((Cell(f"r = {rank}, printed"), *(Cell(text) for text in PRINTED[rank])))
    return PageTable(
        f"Norms of Wq in layer {layer}, projected onto r directions of dW, of W and at random; mean over seeds",
        ("", "on dW's", "on W's", "on random", "norm of W", "norm of dW", "amplification"),
        tuple(rows),
    )


def _by_layer(found: dict[int, Found]) -> PageTable:
    layers = sorted({layer for of in found[RANKS[0]].values() for _, layer in of})
    rows = [
        (
            Cell(f"r = {rank}"),
            *(
                Cell(f"{np.mean([of[ROLE, layer].kappa for of in found[rank].values()]):.2f}" if found[rank] else MISSING)
                for layer in layers
            ),
        )
        for rank in RANKS
    ]  # fmt: skip
    return PageTable(
        "kappa of Wq by layer, mean over seeds", ("", *(f"layer {layer}" for layer in layers)), tuple(rows)
    )
