"""What runs are alike in: what tells tables apart, and what a pass, a step or a comparison is the same for. Written here alone.

A method's own settings (its rate, its weight decay) and the seed are no part of it: they tell rows and runs apart.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from .runs import FSDP, Budget, Run

# Hashes of what a run is made of, beside the method's source, and how a reader is told of them.
SOURCES = {"task": "the task's version", "data": "the data", "model": "the model's files"}

PART = "which test items are scored"  # as a version of the program chooses them

SHORT = 8  # digits of a hash that a reader is shown


@dataclass(frozen=True)
class Setting:
    """Two runs belong in one table where their settings are equal; the name of a budget tells none apart."""

    model: str
    task: str  # SPEC
    device: str
    dtype: str
    weights: str
    head_learning_rate: float
    attention: str | None
    checkpointing: bool
    packing: bool
    optimizer: str
    threads: int
    ranks: int
    parallel: str | None  # of several ranks
    budget: Budget
    sources: tuple[str | None, ...]  # in the order of SOURCES

    @property
    def cell(self) -> tuple[str, str, int | None]:
        """Its place in a comparison, as `Run.cell`."""
        return self.model, self.task, self.budget.train_items

    @property
    def forward_pass(self) -> Hashable:
        """What a forward pass of a method is the same for, whatever it was trained on; `peftbench latency` has no task."""
        task_version, _, model_files = self.sources
        return self.model, model_files, self.task, task_version, self.device, self.weights, self.attention

    @property
    def in_ranks(self) -> str:
        """In how many processes a run was done, and what they shared; empty of one."""
        if self.ranks == 1:
            return ""
        what = f"{self.ranks} GPUs" if self.device == "cuda" else f"{self.ranks} processes"
        shared = "the batch and the base's weights" if self.parallel == FSDP else "the batch"
        return f"each run on {what} that share {shared} ({self.parallel})"

    @property
    def training_step(self) -> Hashable:
        """What a training step of a method is the same for."""
        return replace(self, head_learning_rate=0.0, threads=1, budget=self.budget.of_a_step)

    @property
    def all_but_size(self) -> Setting:
        """What tables that differ in the number of training items alone have in common."""
        return replace(self, budget=replace(self.budget, train_items=None))

    @property
    def all_but_task(self) -> Setting:
        """What tables of several tasks must share to be summed up: all but the task, its data and its own length."""
        _, _, model_files = self.sources
        budget = replace(self.budget, max_length=0)
        return replace(self, task="", budget=budget, sources=(None, None, model_files))

    def conditions(self) -> dict[str, Any]:
        """By name, what is neither model, task nor budget."""
        names = (
            "device",
            "dtype",
            "weights",
            "head_learning_rate",
            "attention",
            "checkpointing",
            "packing",
            "optimizer",
            "threads",
            "ranks",
            "parallel",
        )
        return {name: getattr(self, name) for name in names}

    def versions(self) -> dict[str, str | None]:
        """By name, the first digits of the hashes of what the runs were made of."""
        return {
            name: None if text is None else text[:SHORT]
            for name, text in zip(SOURCES, self.sources, strict=True)
        }


def setting_of(run: Run) -> Setting:
    """The setting of a run of any kind."""
    return Setting(
        model=run.model,
        task=run.task,
        device=run.device,
        dtype=run.dtype,
        weights=run.weights,
        head_learning_rate=run.head_learning_rate,
        attention=run.attention,
        checkpointing=run.checkpointing,
        packing=run.packing,
        optimizer=run.optimizer,
        threads=run.threads,
        ranks=run.ranks,
        parallel=run.parallel if run.ranks > 1 else None,
        budget=run.budget,
        sources=tuple(run.identity.get(name) for name in SOURCES),
    )


def comparable_in(run: Run) -> dict[str, Any]:
    """By name, what two runs must be alike in for a difference between them to be news of the method or the code."""
    if run.kind == "latency":
        return {
            "dtype": run.dtype,
            "weights": run.weights,
            "device": run.device,
            "attention": run.attention,
            "execution": run.grid and run.grid.execution,
        }
    setting = setting_of(run)
    budget = {name: value for name, value in setting.budget.__dict__.items() if name != "name"}
    sources = dict(zip(SOURCES.values(), setting.sources, strict=True))
    return {**budget, **setting.conditions(), "weight_decay": run.weight_decay, **sources}
