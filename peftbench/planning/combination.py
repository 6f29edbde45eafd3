"""The runs of one method on one model and task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import defaults
from ..comparison.request import Comparison
from ..engine.protocol import Device
from ..errors import ModelError
from ..execution import forgetting, relations
from ..models.resolve import kind_of, resolve_model
from ..plugins import build
from ..plugins.contracts import Claims
from ..records.joint import joined
from ..records.match import BYTES_OF_A_NUMBER, Match
from ..records.runs import FSDP, Budget, LatencyGrid, Planned, Run, resolved_plugins
from .counts import Bases, Counts, counts_of
from .matched import NO_SIZE, Sized, sized


@dataclass(frozen=True)
class Combination:
    """One model and task of a comparison, and where its runs are to be done."""

    asked: Comparison
    model: str
    task: str  # canonical SPEC
    device: Device
    cores: int  # that the engine's jobs may share
    dtype: str  # of the compute
    weights: str  # data type of the frozen base
    revision: str  # of the model's files
    of_task: dict[str, str]  # identity of the task and its data, and of what is looked at beside it
    refusal: str | None = None  # why the model can't be used at all, where the command names others too

    @property
    def latency_grid(self) -> tuple[tuple[int, int], ...]:
        """Cells of batch x length: those asked for, else the device's."""
        grid = self.asked.latency_grid
        return defaults.LATENCY_GRID[self.device.kind] if grid is None else grid


def runs_of(cell: Combination, method: str, baseline: bool, bases: Bases) -> list[Planned]:
    """The runs of a method: training by size and seed, costs by process, and one of latency, which `timed_together` joins.

    Args:
        method: canonical SPEC.
        baseline: it was added by the program, and takes its preset whatever learning rate is asked for.
    """
    asked = cell.asked
    claims, rate = _rate(asked, method, baseline)
    first = _first(cell, method, rate)
    counts = _counts(cell, first, bases)
    first = dataclasses.replace(first, threads=_threads(cell, counts))
    length = build.length_of(cell.task)
    runs = []
    for size in dict.fromkeys(asked.train_sizes):
        budget = asked.resolve_budget(length, size)
        seeds = 1 if counts.refusal is not None else _seeds(cell, claims, counts, budget)
        runs += [dataclasses.replace(first, budget=budget, seed=seed) for seed in range(seeds)]
    if counts.refusal is None:
        runs += _costs(cell, first, counts, [run.budget for run in runs])
    return [
        Planned(
            run,
            baseline,
            counts.adapter,
            counts.head,
            counts.refusal,
            seeded := counts.refusal is None and not _is_seedless(cell, claims, counts, run.budget),
            tunable=seeded and run.kind == "training" and rate > 0,
        )
        for run in runs
    ]


def sized_for(cell: Combination, method: str, bases: Bases) -> Sized:
    """The method at the size that the comparison asks for, on this model; as it is where it can't serve the model at all."""
    assert cell.asked.match is not None
    match = Match.of(cell.asked.match)

    def figure_of(text: str) -> int:
        counts = _counts(cell, _first(cell, text, _rate(cell.asked, text, baseline=False)[1]), bases)
        if counts.refusal is not None:
            return NO_SIZE
        return (counts.adapter if match.kind == "params" else BYTES_OF_A_NUMBER * (counts.stored or 0)) or 0

    return Sized(method) if figure_of(method) == NO_SIZE else sized(method, match, figure_of)


def _seeds(cell: Combination, claims: Claims, counts: Counts, budget: Budget) -> int:
    return 1 if _is_seedless(cell, claims, counts, budget) else cell.asked.first_seeds


def _is_seedless(cell: Combination, claims: Claims, counts: Counts, budget: Budget) -> bool:
    """Whether one run stands for all seeds, because not even the items that it sees depend on the seed."""
    if not claims.seedless or counts.whole_split:
        return claims.seedless
    items = budget.train_items or len(build.build_task(cell.task).splits()["train"])
    return not budget.is_below_an_epoch(items)


def timed_together(planned: Sequence[Planned]) -> list[Planned]:
    """The runs of a combination's methods, with one set of latency processes: in each all methods take turns with the base."""
    rest = [item for item in planned if item.run.kind != "latency"]
    # By name: the same methods have the same processes in whatever order they are asked for.
    latency = (item for item in planned if item.run.kind == "latency" and not item.left_out)
    timed = sorted(latency, key=lambda item: item.run.method)
    if not timed:
        return rest
    run = joined([item.run for item in timed])
    together = Planned(run, all(item.baseline for item in timed), None, None, None)
    return rest + [
        dataclasses.replace(together, run=dataclasses.replace(run, seed=process))
        for process in range(defaults.LATENCY_PROCESSES)
    ]


def _counts(cell: Combination, first: Run, bases: Bases) -> Counts:
    """What is known of the method there. A model that fails beside others is a row for each method."""
    refusal = cell.refusal
    if refusal is None:
        try:
            if cell.asked.forgetting is not None or cell.asked.packing:
                objective = build.build_task(cell.task).objective
                made_for = kind_of(resolve_model(cell.model))
                if cell.asked.forgetting is not None:
                    forgetting.check_objective(objective, made_for)
                if cell.asked.packing:
                    relations.check_packable(objective, made_for)
            return counts_of(first, cell.device, bases)
        except ModelError as error:
            if len(cell.asked.models) == 1:
                raise
            refusal = str(error)
    return Counts(None, None, refusal, False)


def _threads(cell: Combination, counts: Counts) -> int:
    """Small models gain more from several runs at once than from several threads each, large ones have no memory for that."""
    if cell.device.kind != "cpu":
        return 1
    small = counts.model is None or counts.model <= defaults.SMALL_MODEL
    return cell.asked.threads or (1 if small else max(1, cell.cores // cell.asked.gpus_per_run))


def _rate(asked: Comparison, method: str, baseline: bool) -> tuple[Any, float]:
    """What the method claims, and its learning rate before any tuning."""
    declared = build.build_method(method)[1]
    if asked.learning_rate is not None and not declared.claims.seedless and not baseline:
        return declared.claims, asked.learning_rate
    return declared.claims, declared.preset.learning_rate


def _first(cell: Combination, method: str, rate: float) -> Run:
    """The training run of seed 0."""
    asked = cell.asked
    return Run(
        kind="training",
        method=method,
        model=cell.model,
        task=cell.task,
        seed=0,
        learning_rate=rate,
        head_learning_rate=defaults.HEAD_LEARNING_RATE,
        weight_decay=build.build_method(method)[1].preset.weight_decay,
        budget=asked.resolve_budget(build.length_of(cell.task), asked.train_sizes[0]),
        device=cell.device.kind,
        dtype=cell.dtype,
        weights=cell.weights,
        grid=None,
        plugins=resolved_plugins(asked.plugins),
        identity=build.run_identity(method, cell.revision, cell.of_task),
        data_dir=asked.data_dir,
        attention=asked.attention,
        forgetting=asked.forgetting,
        retain=asked.retain,
        retain_items=asked.retain_items if asked.retain else 0,
        match=asked.match,
        checkpointing=asked.checkpointing,
        packing=asked.packing,
        optimizer=asked.optimizer,
        ranks=asked.gpus_per_run,
        parallel=asked.parallel,
        commits=build.commits_of(method, [cell.task, *filter(None, [asked.forgetting]), *asked.retain]),
    )


def _costs(cell: Combination, first: Run, counts: Counts, budgets: Sequence[Budget]) -> list[Run]:
    """What a pass costs does not depend on how many items there are to train on, what a step costs where they fill no batch.

    A pass through the base's own graph costs what the base's does: it is not timed.
    """
    whole = dataclasses.replace(
        first.without_looks, threads=1, budget=dataclasses.replace(first.budget, train_items=None)
    )
    runs = []
    if cell.latency_grid and not counts.graph_is_base:
        budget_s = cell.asked.latency_budget_s / defaults.LATENCY_PROCESSES
        grid = LatencyGrid(cell.latency_grid, defaults.LATENCY_ROUNDS, budget_s=budget_s)
        # In the data type of the weights: it is that of a model in use.
        alone = dataclasses.replace(whole, kind="latency", ranks=1, parallel=FSDP)
        runs.append(dataclasses.replace(alone, dtype=whole.weights, grid=grid))
    if counts.has_steps:
        steps = dict.fromkeys(budget.of_a_step for budget in budgets)
        runs += [
            dataclasses.replace(
                whole, kind="profile", budget=budget, seed=process, compile=cell.asked.compile and not process
            )
            for budget in steps
            for process in range(cell.asked.cost_processes)
        ]
    return runs
