"""A run that looks at training steps from inside: what memory is made of at its peak, and how much arithmetic a step is.

The looking slows a step many times over, so it has a process of its own, one a method; the figures of the training runs
are untouched. The steps are the trainer's own, on batches of the run's own order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .. import progress
from ..measure.arithmetic import count_flops
from ..measure.breakdown import memory_by_kind
from ..measure.memory import MemoryMeter
from ..models.precision import DTYPES, frozen_in
from ..models.streams import stream_seed
from ..plugins.build import build_task
from ..records.runs import Run
from ..tables.flops import telling
from .batches import Encoded, IntArray, padding, training_order
from .prepare import encode, inject, load_base, objective_for
from .train import Stepper, accelerator_for, microbatches, padded_tokens, shape

STEPS = 12  # more than are done here


def profile_step(run: Run) -> dict[str, Any]:
    """The sections of the record of a profile run."""
    progress.phase("load")
    task = build_task(run.task)
    objective = objective_for(run, task)
    prepared = inject(run, load_base(run, objective, run.device), run.device)
    adaptation = prepared.adaptation
    claims = {"claims": dataclasses.asdict(prepared.claims)}
    if adaptation.fit is not None:  # no steps to look into
        return claims
    train = encode(run, task, prepared.tokenizer)["train"]
    pad = padding(prepared.tokenizer)
    accelerator = accelerator_for(run.device, run.dtype)
    device = accelerator.device
    widest, *chosen = _batches(run, train)
    stepper = Stepper(adaptation, prepared.head, objective, run, STEPS, accelerator)
    meter = MemoryMeter(device)
    meter.mark_model(adaptation.model)

    def step_on(items: IntArray) -> Callable[[], object]:
        batches = microbatches(train, items, run.budget.accumulate, pad, device)

        def step() -> object:
            torch.manual_seed(stream_seed(run.seed, "dropout"))
            return stepper.step(batches)

        return step

    progress.phase("profile")
    adaptation.model.train()
    with frozen_in(adaptation.model, DTYPES[run.dtype]) as aside:
        with meter.phase():
            for _ in range(2):
                step_on(widest)()
        optimizer = getattr(stepper.optimizer, "optimizer", stepper.optimizer)  # under accelerate's wrapper
        kinds = memory_by_kind(step_on(widest), adaptation.model, optimizer, device, aside)
        counted = []
        for items in chosen:
            its = shape(train, items, run.budget.accumulate)
            flops = count_flops(step_on(items))
            counted.append({"padded_tokens": padded_tokens(its), "shape": its, "flops": flops})
    return {
        **claims,
        "profile": {
            "memory_by_kind": dataclasses.asdict(kinds),
            "measured_peak": None if meter.last is None else dataclasses.asdict(meter.last),
            "flops": counted,
        },
    }


def _batches(run: Run, train: Encoded) -> list[IntArray]:
    """Of the run's own batches the widest, then as few as tell what all others cost, of any seed, of shapes that differ most."""
    steps = run.budget.resolve_steps(len(train))
    own = list(training_order(train.lengths, run.budget.batch_size, steps, run.seed))
    order = [*own, *_of_like_lengths(train, len(own[0]))]
    shapes = [shape(train, items, run.budget.accumulate) for items in order]
    widest = max(range(len(own)), key=lambda step: padded_tokens(shapes[step]))
    return [order[step] for step in (widest, *telling(shapes))]


def _of_like_lengths(train: Encoded, size: int) -> list[IntArray]:
    """Batches from the shortest to the longest: what other seeds' batches are as wide as, where a run has few steps."""
    by_length = np.argsort(train.lengths, kind="stable")
    starts = np.linspace(0, len(by_length) - size, STEPS).astype(int)
    return [by_length[start : start + size] for start in dict.fromkeys(starts.tolist())]
