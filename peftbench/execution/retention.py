"""What a model keeps of other tasks: its scores on them before and after it is trained on one.

Before is the model as its checkpoint gives it, without the method; after is the trained one. Both see the same items, so that their
difference is paired by item. It stands outside every meter and draws nothing at random: a run that looks ends with the same weights, bit
for bit, as one that does not.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from ..models.load import Loaded
from ..models.output_layer import OutputLayer
from ..models.precision import DTYPES, frozen_in
from ..objectives import figures
from ..objectives.base import Objective, joins_items
from ..objectives.jackknife import pseudo_values
from ..plugins.build import build_task, length_of, source_of
from ..plugins.fence import fenced
from ..records.record import Check
from ..records.results import RETAINED, RETAINED_PSEUDO_VALUES
from ..records.runs import Run
from . import batches
from .finite import check_figures
from .merging import merged_where_proven
from .prepare import Prepared, objective_for
from .score import Scorer, items_at_once


@dataclass(frozen=True)
class Kept:
    """A task that a model is not trained on, and the items that it is scored on."""

    objective: Objective
    items: batches.Encoded
    at_once: int  # items of a batch


def encoded(task: str, objective: Objective, tokenizer: Any, model: str, revision: str) -> batches.Encoded:
    """The tokenised test split of a task, cut at the task's own length.

    Args:
        task: SPEC.
        revision: of the model's files.

    Raises:
        UsageError: it has no test split, or its objective refuses a row.
    """
    key = batches.cache_key(task, source_of(task), model, revision)
    load = build_task(task).splits
    return batches.encode_splits(task, objective, load, tokenizer, length_of(task), key, ("test",))["test"]


def kept_of(run: Run, tokenizer: Any) -> list[Kept]:
    """The tasks in `run.retain` with their items: of each group the same share, the same for every method and seed."""
    found = []
    for task in run.retain:
        objective = objective_for(run, build_task(task))
        split = encoded(task, objective, tokenizer, run.model, run.identity["model"])
        chosen = batches.scored_items(split, run.retain_items, joins_items(objective))
        found.append(Kept(objective, split.some(chosen), items_at_once(length_of(task))))
    return found


@dataclass(frozen=True)
class Scoring:
    """What it takes to score a model on tasks."""

    tasks: Sequence[Kept]
    tokenizer: Any
    accelerator: Any
    dtype: str  # of the compute

    def frames(
        self, model: nn.Module, output: OutputLayer, writing: AbstractContextManager[Any]
    ) -> list[pd.DataFrame]:
        """Predictions for the items of each task.

        Args:
            writing: what the model is in while it writes.

        Raises:
            Diverged: the model's outputs are no numbers.
        """
        scorers = [
            Scorer(model, task.objective, self.tokenizer, self.accelerator, task.at_once, output)
            for task in self.tasks
        ]
        with frozen_in(model, DTYPES[self.dtype]):
            found = [scorer.predict(task.items) for scorer, task in zip(scorers, self.tasks, strict=True)]
            with writing:
                for scorer, task, frame in zip(scorers, self.tasks, found, strict=True):
                    scorer.write(task.items, frame)
        return found


@dataclass(frozen=True)
class Before:
    """What the scores were before the method came."""

    scoring: Scoring
    frames: Sequence[pd.DataFrame]

    def after(self, prepared: Prepared, merging: Check | None, out: Path) -> list[dict[str, Any]]:
        """What the record says, of the trained model. Scores by item go into files in the folder `out`.

        Args:
            merging: what is known of merging, as for the scores of the trained task.

        Raises:
            Diverged: the model's outputs, or figures made of them, are no numbers.
        """
        adaptation = prepared.adaptation
        merged = merged_where_proven(adaptation, merging, self.scoring.accelerator.device)
        with fenced(prepared.changed, "while it scores"):
            frames = self.scoring.frames(adaptation.model, prepared.output, merged)
        told, by_item, by_block = [], [], []
        for place, (task, then, now) in enumerate(zip(self.scoring.tasks, self.frames, frames, strict=True)):
            figures_then, figures_now = (figures.figures(task.objective, frame) for frame in (then, now))
            check_figures(figures_then)
            check_figures(figures_now)
            told.append(
                {
                    "metric": task.objective.metric.facts,
                    "items": len(now),
                    "before": figures_then,
                    "after": figures_now,
                }
            )
            by_item.append(_by_item(place, then, now))
            by_block.append(
                _by_block(
                    place,
                    task.objective.metric.name,
                    pseudo_values(task.objective, then, figures_then),
                    pseudo_values(task.objective, now, figures_now),
                )
            )
        pd.concat(by_item, ignore_index=True).to_parquet(out / RETAINED, index=False)
        pd.concat(by_block, ignore_index=True).to_parquet(out / RETAINED_PSEUDO_VALUES, index=False)
        return told


def before(run: Run, loaded: Loaded, accelerator: Any) -> Before | None:
    """Score the model as its checkpoint gives it; None where the run does not ask what is retained."""
    if not run.retain:
        return None
    scoring = Scoring(kept_of(run, loaded.tokenizer), loaded.tokenizer, accelerator, run.dtype)
    frames = scoring.frames(loaded.model.to(accelerator.device), loaded.output, nullcontext())
    loaded.model.to("cpu")  # where every method draws
    gc.collect()
    if accelerator.device.type == "cuda":  # the meters begin as if nothing had been there
        torch.cuda.empty_cache()
    return Before(scoring, frames)


def _by_item(place: int, then: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """One row an item; `score` is there where the metric is the mean of one number an item."""
    told = {"task": place, "item": now["item"], "group": now["group"].astype(str)}
    for name in ("score", "nll"):
        for moment, frame in (("before", then), ("after", now)):
            known = frame[name] if name in frame else pd.Series(float("nan"), now.index)
            told[f"{name}_{moment}"] = known.astype("float64")
    return pd.DataFrame(told, now.index)


def _by_block(place: int, metric: str, then: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """One row a block of items: pseudo-values of the primary metric, where it is no such mean."""
    if metric not in now:
        then, now = then.iloc[:0].assign(**{metric: 0.0}), now.iloc[:0].assign(**{metric: 0.0})
    told = {
        "task": place,
        "block": now["block"].astype("int64"),
        "before": then[metric].astype("float64"),
        "after": now[metric].astype("float64"),
    }
    return pd.DataFrame(told, now.index).astype({"task": "int64"})
