"""The one trainer. The same loop, in the same order, for every method; it knows none of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from . import progress
from .adaptation import Adaptation
from .data import Encoded, collate, training_order
from .measure.clock import synchronized_clock
from .objectives import Objective
from .runs import Run
from .streams import stream_seed


@dataclass(frozen=True)
class Trained:
    """What the loop saw, step by step. Raw: summaries come later."""

    losses: list[float]
    gradient_norms: list[float]
    step_s: list[float]  # forward, backward, clipping and update; data and everything else excluded
    data_s: list[float]  # cutting, padding and moving the step's batch
    tokens: list[int]  # real tokens of each step; padding is not counted


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def accelerator_for(device: str, dtype: str) -> Accelerator:
    """Accelerate on one device, with autocast in `dtype` unless that is float32."""
    mixed = {"float32": "no", "bfloat16": "bf16"}[dtype]
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


def parameter_groups(adaptation: Adaptation, head: dict[str, nn.Parameter], run: Run) -> list[dict[str, Any]]:
    """What trains, by learning rate: the method's, scaled where it asks for it, and one for every method's head."""
    by_rate: dict[float, list[nn.Parameter]] = {}
    for name, parameter in adaptation.params.items():
        rate = run.learning_rate * adaptation.groups.get(name, 1.0)
        by_rate.setdefault(rate, []).append(parameter)
    groups = [
        {"params": params, "lr": rate, "weight_decay": run.weight_decay} for rate, params in by_rate.items()
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


def train(
    adaptation: Adaptation,
    head: dict[str, nn.Parameter],
    data: Encoded,
    objective: Objective,
    run: Run,
    pad: dict[str, int],
    accelerator: Accelerator,
    watch: Callable[[], None] = lambda: None,
) -> Trained:
    """Train what the adaptation and the head declare, for exactly the run's budget; the last step's weights count.

    `watch` is called after every step, outside the timers.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    budget = run.budget
    steps = budget.resolve_steps(len(data))
    model, device = adaptation.model, accelerator.device
    groups = parameter_groups(adaptation, head, run)
    trainable = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: schedule(n, steps, budget.warmup_share)
    )
    # The model is not prepared: that would wrap its forward in autocast for every meter that comes after.
    optimizer, scheduler = accelerator.prepare(optimizer, scheduler)
    clock = synchronized_clock(device)
    seen = Trained([], [], [], [], [])

    torch.manual_seed(stream_seed(run.seed, "dropout"))
    model.train()
    for step, items in enumerate(training_order(data.lengths, budget.batch_size, steps, run.seed)):
        begun = time.perf_counter()
        parts = torch.tensor(items).tensor_split(min(budget.accumulate, len(items)))
        batches = [collate(data, part.numpy(), pad, device) for part in parts]
        started = clock()

        loss_sum = torch.zeros((), device=device)
        for part, batch in zip(parts, batches, strict=True):
            share = len(part) / len(items)
            labels = batch.pop("labels")
            with accelerator.autocast():
                loss = objective.loss(model(**batch).logits, {**batch, "labels": labels}) * share
            accelerator.backward(loss)
            loss_sum += loss.detach()
        norm = accelerator.clip_grad_norm_(trainable, budget.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if adaptation.after_step is not None:
            adaptation.after_step(step)

        ended = clock()
        seen.losses.append(float(loss_sum))
        seen.gradient_norms.append(float(norm))
        seen.step_s.append(ended - started)
        seen.data_s.append(started - begun)
        seen.tokens.append(int(data.lengths[items].sum()))
        if not math.isfinite(seen.losses[-1]):
            raise Diverged(f"the loss is {seen.losses[-1]} at step {step + 1}")
        progress.step(step + 1, steps)
        watch()
    model.eval()
    return seen
