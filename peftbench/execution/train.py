"""The one trainer. The same loop, in the same order, for every method; it knows none of them."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from .. import progress
from ..measure.clock import synchronized_clock
from ..models.adaptation import Adaptation
from ..models.parted import is_parted
from ..models.precision import DTYPES
from ..models.streams import stream_seed
from ..objectives.base import Objective
from ..records.runs import Run
from . import ranks
from .batches import Encoded, training_order
from .checkpoint import Checkpoints
from .finite import Diverged
from .optimizers import optimizer_of
from .packing import room_of
from .parts import Part, Parts, padded_tokens
from .prepare import Prepared

# Of `accelerate launch`, torchrun and MPI; they also stand in the shells and jobs that those start.
LAUNCHERS = re.compile(r"ACCELERATE_|FSDP_|PMI_|OMPI_COMM_WORLD_|MV2_COMM_WORLD_|(LOCAL_)?(RANK|WORLD_SIZE)$")


@dataclass(frozen=True)
class Trained:
    """What the loop saw, step by step. Raw: summaries come later."""

    losses: list[float]
    gradient_norms: list[float]
    step_s: list[float]  # forward, backward, clipping and update; data and everything else excluded
    data_s: list[float]  # cutting, padding and moving the step's batch
    tokens: list[int]  # real tokens of each step; padding is not counted
    padded_tokens: list[int]  # with padding: what the arithmetic is done on
    shapes: list[list[list[int]]]  # of each step's parts, as `Parts.shape` says
    carried_on: list[int]  # after which steps another process carried on from a checkpoint


def accelerator_for(device: str, dtype: str) -> Accelerator:
    """Accelerate on one device, with autocast in `dtype` unless that is float32, whatever a launcher has set."""
    mixed = {torch.float32: "no", torch.bfloat16: "bf16"}[DTYPES[dtype]]
    with _without_launcher():
        return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


@contextmanager
def _without_launcher() -> Iterator[None]:
    """For the block, no variable by which a launcher tells Accelerate to divide gradients, or to wait for other processes."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if LAUNCHERS.match(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def parameter_groups(adaptation: Adaptation, head: dict[str, nn.Parameter], run: Run) -> list[dict[str, Any]]:
    """What trains, by learning rate: the method's, scaled where it asks for it, and one for every method's head."""
    by_rate: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in adaptation.params.items():
        rate = run.learning_rate * adaptation.groups.get(name, 1.0)
        by_rate.setdefault((rate, is_parted(parameter)), []).append(parameter)  # no kernel takes both kinds
    groups = [
        {"params": params, "lr": rate, "weight_decay": run.weight_decay}
        for (rate, _), params in by_rate.items()
    ]
    if head:
        groups.append({"params": list(head.values()), "lr": run.head_learning_rate, "weight_decay": 0.0})
    return groups


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """The factor on the learning rate at `step` from 0: linear warm-up, then linear to 0 after the last step."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)


def dropout_seed(seed: int) -> int:
    """Of each rank another one: its items are others."""
    return stream_seed(seed, "dropout" if ranks.own() == 0 else f"dropout of rank {ranks.own()}")


class Stepper:
    """One optimizer step after the other, on whatever batches it is given."""

    def __init__(
        self,
        prepared: Prepared,
        objective: Objective,
        run: Run,
        steps: int,
        accelerator: Accelerator,
    ) -> None:
        self.adaptation, self.objective, self.accelerator = prepared.adaptation, objective, accelerator
        self.output = prepared.output
        self.clip_norm, self.done, self.steps = run.budget.clip_norm, 0, steps
        groups = parameter_groups(prepared.adaptation, prepared.head, run)
        self.trainable = [parameter for group in groups for parameter in group["params"]]
        optimizer = optimizer_of(run.optimizer, groups, prepared.adaptation.model)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda n: schedule(n, steps, run.budget.warmup_share)
        )
        # The model is not prepared: that would wrap its forward in autocast for every meter that comes after.
        self.optimizer, self.scheduler = accelerator.prepare(optimizer, scheduler)

    def step(self, parts: Sequence[Part]) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward, backward, clipping and update on this rank's parts of one batch; returns the batch's loss and gradient norm."""
        loss_sum = torch.zeros((), device=self.accelerator.device)
        for part in parts:
            with self.accelerator.autocast():
                loss = self._loss(part) * part.share
            loss_sum += loss.detach()
            if self.adaptation.penalty is not None:
                loss = loss + self.adaptation.penalty() * part.share
            self.accelerator.backward(loss)
        norm = self._clipped()
        self.optimizer.step()
        self.scheduler.step()
        if self.adaptation.after_step is not None:
            self.adaptation.after_step(self.done, self.steps)
        self.optimizer.zero_grad()
        self.done += 1
        return ranks.summed(loss_sum), norm

    def _clipped(self) -> torch.Tensor:
        if ranks.count() == 1:
            return self.accelerator.clip_grad_norm_(self.trainable, self.clip_norm)  # type: ignore[no-any-return]
        ranks.sum_gradients(self.trainable)
        return ranks.clip_gradients(self.trainable, self.clip_norm)

    def _loss(self, part: Part) -> torch.Tensor:
        model = self.adaptation.model
        if part.asked is None:
            return self.objective.loss(model(**part.inputs).logits, part.batch)
        places = self.output.places(model, part.inputs, part.asked.index)
        return places.mean_loss(part.asked.tokens, self.objective.token_losses)


def train(
    prepared: Prepared,
    data: Encoded,
    objective: Objective,
    run: Run,
    pad: dict[str, int],
    accelerator: Accelerator,
    watch: Callable[[int, float], None] = lambda done, train_s: None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train what the adaptation and the head declare, for exactly the run's budget; the last step's weights count.

    `watch` is called after every step with the steps done and the seconds that they took, outside the timers; it
    leaves the model in training mode.

    Args:
        checkpoints: from which a training that was ended carries on.

    Raises:
        Diverged: the loss or its gradient became NaN or infinite.
    """
    budget = run.budget
    steps = budget.resolve_steps(len(data))
    model, device = prepared.adaptation.model, accelerator.device
    stepper = Stepper(prepared, objective, run, steps, accelerator)
    parts = Parts(data, objective, pad, device, budget.accumulate, room_of(run, model))
    clock = synchronized_clock(device)
    seen = Trained([], [], [], [], [], [], [], [])

    torch.manual_seed(dropout_seed(run.seed))
    model.train()
    first = 0 if checkpoints is None else checkpoints.carry_on(stepper, seen)
    for step, items in enumerate(training_order(data.lengths, budget.batch_size, steps, run.seed)):
        if step < first:
            continue
        begun = time.perf_counter()
        batch = parts.of(items)
        started = clock()
        loss, norm = stepper.step(batch)
        ended = clock()
        seen.losses.append(float(loss))
        seen.gradient_norms.append(float(norm))
        seen.step_s.append(ended - started)
        seen.data_s.append(started - begun)
        seen.tokens.append(int(data.lengths[items].sum()))
        seen.shapes.append(parts.shape(items))
        seen.padded_tokens.append(padded_tokens(seen.shapes[-1]))
        for name, value in (("loss", seen.losses[-1]), ("gradient's norm", seen.gradient_norms[-1])):
            if not math.isfinite(value):
                raise Diverged(f"the {name} is {value} at step {step + 1}")
        progress.step(step + 1, steps)
        watch(step + 1, sum(seen.step_s))
        if checkpoints is not None:
            checkpoints.after_step(step + 1, steps, stepper, seen)
    model.eval()
    return seen
