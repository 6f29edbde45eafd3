"""Do the intervals hold what they promise, and how many seeds and items does a difference need? By simulation.

    python benchmarks/coverage_and_power.py [--repetitions 1000] > docs/results/statistics.md

A test item is right when  mu + group + item + seed + chance > 0,  all parts normal. Groups of five items and the items
themselves are as hard for every method and seed; each seed shifts a method by an effect of its own; chance is drawn anew
for each method, seed and item. The truth is then known in closed form. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np
from scipy import stats as scipy_stats

from peftbench.stats.estimate import Scores, estimate

GROUP_SD, ITEM_SD, CHANCE_SD = (
    0.5,
    1.2,
    0.5,
)  # label correlation within a group as measured on reviews of one film
ACCURACY = 0.78
GROUP_ITEMS = 5


def latent(accuracy: float, seed_sd: float) -> float:
    """The mu that gives this accuracy."""
    return float(scipy_stats.norm.ppf(accuracy)) * math.sqrt(
        GROUP_SD**2 + ITEM_SD**2 + CHANCE_SD**2 + seed_sd**2
    )


def spread(points: float) -> float:
    """The seed effect, on the latent scale, whose accuracies have this standard deviation in points."""
    scale = math.sqrt(GROUP_SD**2 + ITEM_SD**2 + CHANCE_SD**2)
    density = float(scipy_stats.norm.pdf(scipy_stats.norm.ppf(ACCURACY)))
    return points / 100 * scale / density


def draw(
    generator: np.random.Generator, seeds: int, items: int, seed_sd: float, accuracies: list[float]
) -> list[Scores]:
    """Scores of methods with these accuracies on the same items."""
    groups = np.arange(items) // GROUP_ITEMS
    hardness = generator.normal(0, GROUP_SD, items // GROUP_ITEMS + 1)[groups] + generator.normal(
        0, ITEM_SD, items
    )
    found = []
    for accuracy in accuracies:
        z = latent(accuracy, seed_sd) + hardness + generator.normal(0, seed_sd, (seeds, 1))
        right = z + generator.normal(0, CHANCE_SD, (seeds, items)) > 0
        found.append(Scores.of_items(dict(enumerate(right.astype(float)))))
    return found


def rates(
    generator: np.random.Generator, repetitions: int, seeds: int, items: int, points: float, gap: float
) -> tuple[float, float, float]:
    """Coverage of one score's interval, of a difference's interval, and how often a difference is found (p < .05)."""
    groups = (np.arange(items) // GROUP_ITEMS).astype(str)
    own = other = found = 0
    for _ in range(repetitions):
        a, b = draw(generator, seeds, items, spread(points), [ACCURACY + gap / 100, ACCURACY])
        difference = a.minus(b)
        assert difference is not None
        score, pair = estimate(b, groups), estimate(difference, groups)
        own += abs(score.value - ACCURACY) <= (score.half_width() or 0)
        other += abs(pair.value - gap / 100) <= (pair.half_width() or 0)
        found += (pair.p_two_sided() or 1.0) < 0.05
    return own / repetitions, other / repetitions, found / repetitions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=1000)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    print("# Coverage, false positives and power\n")
    print(
        f"`benchmarks/coverage_and_power.py`, {asked.repetitions} repetitions a cell (standard error of a share of .95: "
        f"{math.sqrt(0.95 * 0.05 / asked.repetitions) * 100:.1f} points). Items in groups of {GROUP_ITEMS}, accuracy "
        f"{ACCURACY:.0%}; the seed effect is the standard deviation of a method's accuracy over seeds.\n"
    )
    print("## Nominal 95 % intervals, and tests at .05 where there is no difference\n")
    print(
        "| seeds | items | seed effect, points | covers a score % | covers a difference % | false positives % |"
    )
    print("|--:|--:|--:|--:|--:|--:|")
    worst = {3: [1.0, 0.0], 5: [1.0, 0.0], 10: [1.0, 0.0]}
    false = 0.0
    for seeds in worst:
        for items in (200, 1000, 2500):
            for points in (0.0, 0.5, 1.0, 3.0):
                own, other, positive = rates(generator, asked.repetitions, seeds, items, points, 0.0)
                worst[seeds] = [min(worst[seeds][0], own, other), max(worst[seeds][1], own, other)]
                false = max(false, positive)
                print(
                    f"| {seeds} | {items:,} | {points:g} | {own:.1%} | {other:.1%} | {positive:.1%} |",
                    flush=True,
                )
    print()
    for seeds, (low, high) in worst.items():
        print(f"- {seeds} seeds: coverage from {low:.1%} to {high:.1%}.")
    print(f"- False positives at most {false:.1%}.")
    print(
        "- Above 99 % where seeds have no effect of their own: the chance of each seed and item is then in both variances, so "
        "the interval of a difference is too wide there, never too narrow.\n"
    )
    print("## Power: how often a true difference is found with p < .05, %\n")
    print("| difference, points | seed effect, points | items | 3 seeds | 5 seeds | 10 seeds | 20 seeds |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for gap in (1.0, 3.0):
        for points in (0.5, 1.5):
            for items in (500, 2500, 10000):
                cells = [
                    rates(generator, asked.repetitions // 2, k, items, points, gap)[2] for k in (3, 5, 10, 20)
                ]
                said = " | ".join(f"{cell:.0%}" for cell in cells)
                print(f"| {gap:g} | {points:g} | {items:,} | {said} |", flush=True)
    print(
        "\nSeeds buy power where the seed effect is large, items where it is small; neither replaces the other, since "
        "their variances add."
    )
    # Above 99 % is caution, not error: chance is in both variances where seeds have no effect of their own.
    good = worst[3][0] >= 0.92 and worst[5][0] >= 0.93 and worst[10][0] >= 0.93 and false <= 0.08
    print("within the promised bounds" if good else "OUTSIDE the promised bounds", file=sys.stderr)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
