"""Equal tuning: every method gets the same number of learning rates on the validation split, around its preset.

Rates are preset x 10^(j/2) for j = 0, +1, -1, +2, -2, ..., so a larger number reuses a smaller one's runs. Each is
trained with seeds of its own and judged by its mean negative log-likelihood on validation; among those within one
standard error of the best (of the paired difference, over seeds and items), the one nearest to the preset is used. When
one method's choice lies at the edge of its grid, EVERY method gets one more rate, each on its own side, at most twice.
A rate that diverges is a bad rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..records.results import Result
from ..records.runs import Planned
from ..tables.rate_curve import grid, rate_curve

SEEDS = (1000, 1001)  # of the trials; reported runs have others
EXTENSIONS = 2  # rates that an edge may add, to every method


def rate(preset: float, half_decade: int) -> float:
    """preset x 10^(j/2) with two digits, so that grids around one preset meet in the same numbers."""
    return preset if half_decade == 0 else float(f"{preset * 10 ** (half_decade / 2):.2g}")


def trial_runs(item: Planned, half_decade: int) -> list[Planned]:
    """The runs of one trial of a method, for one of its reported runs at its preset."""
    run = item.run
    first = dataclasses.replace(
        run.without_looks,
        kind="tuning",
        learning_rate=rate(run.learning_rate, half_decade),
        half_decade=half_decade,
    )
    return [dataclasses.replace(item, run=dataclasses.replace(first, seed=seed)) for seed in SEEDS]


def tune(
    planned: Sequence[Planned], count: int, do: Callable[[list[Planned]], list[Result]]
) -> tuple[list[Planned], list[Result]]:
    """Tune the methods of one model and task with `count` rates each.

    Args:
        planned: their reported runs, at their presets.
        do: does runs, or finds them in the store.

    Returns:
        The reported runs at their chosen rates, and the results of all trials.
    """
    first = {item.run.method: item for item in planned if item.tunable}
    places = {method: grid(count) for method in first}
    found: dict[str, list[Result]] = {method: [] for method in first}
    for extension in range(EXTENSIONS + 1):
        wanted = [run for m, item in first.items() for j in places[m] for run in trial_runs(item, j)]
        for result in do(wanted):
            found[result.record.run.method].append(result)
        curves = {method: rate_curve(results) for method, results in found.items()}
        if count < 2 or extension == EXTENSIONS or not any(c.edge for c in curves.values()):
            break
        places = {method: [c.next_half_decade] for method, c in curves.items()}
    chosen = {method: c.chosen for method, c in curves.items()} if first else {}
    at_rates = []
    for item in planned:
        trial = chosen.get(item.run.method) if item.tunable else None
        run = item.run if trial is None else dataclasses.replace(item.run, learning_rate=trial.learning_rate)
        at_rates.append(dataclasses.replace(item, run=run))
    return at_rates, [result for results in found.values() for result in results]
