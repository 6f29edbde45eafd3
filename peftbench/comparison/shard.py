"""A part of a comparison, for machines without a folder in common: each does its own, and `peftbench merge` brings them together."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..records.runs import MEASURED_ALONE, Planned


def part_of(planned: Sequence[Planned], shard: tuple[int, int], by_cell: bool) -> list[Planned]:
    """The runs of part `number` of `count`: of every command with the same words the same, whatever its store holds.

    Costs and latency of a model and task are measured by one part, on one machine.

    Args:
        shard: number, from 1, and count.
        by_cell: whether a model, task and number of training items stay together, as a learning-rate sweep needs.

    Raises:
        UsageError: there are fewer of these than parts.
    """
    number, count = shard
    homes = list(dict.fromkeys((item.run.model, item.run.task) for item in planned))
    cells = list(dict.fromkeys(item.run.cell for item in planned if item.run.kind not in MEASURED_ALONE))
    if by_cell and count > len(cells):
        raise UsageError(
            f"--shard {number}/{count}: rates are tuned for a model and task as a whole, of which there are {len(cells)}; use "
            f"--shard 1/{len(cells)} or less, one --store that all machines share, or --tune 0"
        )
    mine, others = [], 0
    for item in planned:
        if item.run.kind in MEASURED_ALONE:
            place = homes.index((item.run.model, item.run.task))
        elif by_cell:
            place = cells.index(item.run.cell)
        else:
            place, others = others, others + 1
        if place % count == number - 1:
            mine.append(item)
    return mine
