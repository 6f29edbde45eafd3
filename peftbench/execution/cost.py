"""A cost run: what a training step takes, with nothing beside it on the machine.

The steps are the trainer's own, on the first batches of the run's own order, the widest one of all after them, so that the peak is
the whole run's. The first process of a method then looks at steps from inside: what memory is made of at its peak, and how much
arithmetic a step is. That slows a step many times over, so it comes last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from .. import defaults, progress
from ..measure import nvml
from ..measure.arithmetic import count_flops
from ..measure.breakdown import memory_by_kind
from ..measure.bystanders import Bystanders
from ..measure.energy import EnergyMeter
from ..measure.memory import MemoryMeter
from ..models.precision import DTYPES, frozen_in
from ..objectives.base import Objective
from ..plugins.build import build_task
from ..records.runs import Run
from ..tables.flops import telling
from . import ranks, relations, score
from .batches import Encoded, IntArray, first_of_shuffled, padding, training_order
from .compiled import time_compiled
from .hidden import added_bytes, tensors_of
from .merging import before_writing, merged_where_proven
from .packing import room_of
from .parts import Part, Parts, padded_tokens
from .prepare import Prepared, encode, inject, load_base, objective_for
from .probe import Probe, long_probe, short_probe
from .train import Stepper, accelerator_for, dropout_seed
from .train import train as train_for

LOOKS = 12  # steps that are looked at from inside at most; the schedule is as long
SCORED = 200  # items of validation that are scored for their energy


def measure_costs(run: Run) -> dict[str, Any]:
    """The sections of the record of a cost run."""
    progress.phase("load")
    task = build_task(run.task)
    objective = objective_for(run, task)
    loaded = load_base(run, objective, run.device)
    known = tensors_of(loaded.model)
    prepared = inject(run, loaded, run.device)
    known |= {id(p) for p in prepared.moved.values()}
    adaptation = prepared.adaptation
    sections: dict[str, Any] = {"claims": dataclasses.asdict(prepared.claims)}
    if adaptation.fit is not None:  # no steps to look at
        return sections
    encoded = encode(run, task, prepared.tokenizer)
    train, pad = encoded["train"], padding(prepared.tokenizer)
    accelerator = accelerator_for(run.device, run.dtype)
    device = accelerator.device
    prepared.prove_output()
    if (room := room_of(run, adaptation.model)) is not None:
        relations.check_packing(
            prepared, short_probe(train, pad, device).computed_in(run, prepared.output), room
        )
    parts = Parts(train, objective, pad, device, run.budget.accumulate, room)
    widest, *chosen = _batches(run, parts)
    meter = MemoryMeter(device)
    meter.mark_model(adaptation.model, added_bytes(adaptation, known))
    steps = min(run.budget.resolve_steps(len(train)), defaults.COST_STEPS)
    short = dataclasses.replace(run, budget=dataclasses.replace(run.budget, steps=steps, epochs=None))

    progress.phase("train")
    gpu_before = nvml.state_now(device)
    bystanders, energy = Bystanders(device), EnergyMeter(device.type)
    with frozen_in(adaptation.model, DTYPES[run.dtype]) as aside:
        with meter.phase():
            seen = train_for(prepared, train, objective, short, pad, accelerator)
        taken, of_first = ranks.energy(energy.used(), device), meter.last
        accelerator.free_memory()  # it holds the optimizer
        stepper = Stepper(prepared, objective, run, LOOKS, accelerator)
        looked = _Steps(stepper, run, parts)
        adaptation.model.train()
        with meter.phase():
            for _ in range(2):  # the optimizer's state comes with the first
                looked.on(widest)()
        peaks = [peak for peak in (of_first, meter.last) if peak is not None]
        highest = ranks.peak(max(peaks, key=lambda peak: peak.headline_bytes or 0, default=None))
        sections["memory"] = {"train": None if highest is None else dataclasses.asdict(highest)}
        sections["training"] = {
            **dataclasses.asdict(seen),
            "train_items": len(train),
            "steps": steps,
            **dataclasses.asdict(ranks.seen(bystanders)),
            **dataclasses.asdict(taken),
            "gpu_before": gpu_before,
            "gpu_after": nvml.state_now(device),
        }
        if run.seed == 0:
            progress.phase("profile")
            optimizer = getattr(
                stepper.optimizer, "optimizer", stepper.optimizer
            )  # under accelerate's wrapper
            kinds = memory_by_kind(looked.on(widest), adaptation.model, optimizer, device, aside)
            counted = []
            for items in chosen:
                its = parts.shape(items)
                flops = sum(ranks.gathered(looked.flops(items)))
                counted.append({"padded_tokens": padded_tokens(its), "shape": its, "flops": flops})
            sections["profile"] = {"memory_by_kind": dataclasses.asdict(kinds), "flops": counted}
        if run.compile:
            progress.phase("compile")
            accelerator.free_memory()
            own = _own(run, train)[:steps]
            stepper = Stepper(prepared, objective, run, 3 * steps + 1, accelerator)
            looked = _Steps(stepper, run, parts)
            timed = time_compiled(stepper, [looked.on(items) for items in own], device)
            sections["profile"] = sections.get("profile", {}) | {"compiled": timed}
    if taken.energy_j is not None:
        sections["scoring"] = _energy_of_scoring(run, prepared, objective, encoded, accelerator)
    return sections


@dataclasses.dataclass(frozen=True)
class _Steps:
    """Single steps on batches of choice."""

    stepper: Stepper
    run: Run
    parts: Parts

    def on(self, items: IntArray) -> Callable[[], object]:
        return self._of(self.parts.of(items))

    def flops(self, items: IntArray) -> int:
        """This rank's share of a step's operations, without those of a part that it does for nothing."""
        batch, parts = self.parts.of(items), self.parts.shape(items)
        found = count_flops(self._of(batch))
        if len(parts) % ranks.count():  # some rank has one, and all must take as many steps
            idle = len(batch) - len(parts[ranks.own() :: ranks.count()])
            found -= idle * count_flops(self._of(batch[-1:]))
        return found

    def _of(self, batch: list[Part]) -> Callable[[], object]:
        def step() -> object:
            torch.manual_seed(dropout_seed(self.run.seed))
            return self.stepper.step(batch)

        return step


def _energy_of_scoring(
    run: Run,
    prepared: Prepared,
    objective: Objective,
    encoded: Mapping[str, Encoded],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """What scoring some items of validation takes, written as a training run writes."""
    progress.phase("score")
    adaptation, split, device = prepared.adaptation, encoded["validation"], accelerator.device
    pad = padding(prepared.tokenizer)

    def probes() -> list[Probe]:
        made = (make(encoded["train"], pad, device) for make in (long_probe, short_probe))
        return [probe.computed_in(run, prepared.output) for probe in made]

    model, some = adaptation.model.eval(), first_of_shuffled(split, min(SCORED, len(split)))
    merging = before_writing(run, adaptation, prepared.claims, objective.decoding is not None, probes)
    at_once = score.items_at_once(run.budget.max_length)
    scorer = score.Scorer(model, objective, prepared.tokenizer, accelerator, at_once, prepared.output)
    energy = EnergyMeter(device.type)
    with frozen_in(model, DTYPES[run.dtype]):
        scored = scorer.predict(some)
        with merged_where_proven(adaptation, merging, device):
            scorer.write(some, scored)
    used = ranks.energy(energy.used(), device)
    return {"items": len(scored), **dataclasses.asdict(used)}


def _batches(run: Run, parts: Parts) -> list[IntArray]:
    """Of the run's own batches the widest, then as few as tell what all others cost, of any seed, of shapes that differ most."""
    own = _own(run, parts.data)
    order = [*own, *_of_like_lengths(parts.data, len(own[0]))]
    shapes = [parts.shape(items) for items in order]
    widest = max(range(len(own)), key=lambda step: padded_tokens(shapes[step]))
    return [order[step] for step in (widest, *telling(shapes))]


def _own(run: Run, train: Encoded) -> list[IntArray]:
    """The run's own batches in its own order."""
    steps = run.budget.resolve_steps(len(train))
    return list(training_order(train.lengths, run.budget.batch_size, steps, run.seed))


def _of_like_lengths(train: Encoded, size: int) -> list[IntArray]:
    """Batches from the shortest to the longest: what other seeds' batches are as wide as, where a run has few steps."""
    by_length = np.argsort(train.lengths, kind="stable")
    starts = np.linspace(0, len(by_length) - size, LOOKS).astype(int)
    return [by_length[start : start + size] for start in dict.fromkeys(starts.tolist())]
