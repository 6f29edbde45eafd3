"""Whether a run can fit at all, by arithmetic: its texts the model's positions, weights, gradients and optimizer the memory.

Of memory it is a floor. Activations, copies of weights in the compute type and the libraries come on top, so a run that passes may still run
out of memory, which is a row of its own then; one that does not pass can't be done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.protocol import Device
from ..execution import forgetting, optimizers
from ..execution.prepare import Prepared
from ..models.adaptation import Adaptation
from ..models.positions import positions_of
from ..objectives.base import Objective
from ..plugins.build import build_task, length_of
from ..records.runs import ADAMW, FSDP, Run


@dataclass(frozen=True)
class Floor:
    """Bytes that are there at once in every training step, whatever the batch."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.gradients_bytes + self.optimizer_bytes


def floor(prepared: Prepared, trains: bool, optimizer: str = ADAMW, sharing: int = 1) -> Floor:
    """The floor of a model with a method in it, which may be without weights (on the meta device).

    Args:
        trains: in steps; otherwise it has weights alone.
        sharing: processes that hold a part each of all but the head and what the method trains of its own.
    """
    adaptation: Adaptation = prepared.adaptation
    of_base = {id(p) for p in prepared.base} - {id(p) for p in prepared.head.values()}
    own = {id(p) for p in (*adaptation.params.values(), *prepared.head.values())} - of_base

    def together(sizes: Mapping[int, int]) -> int:
        return sum(size if number in own else -(-size // sharing) for number, size in sizes.items())

    held = {id(t): t for t in (*adaptation.model.parameters(), *adaptation.model.buffers())}
    trained = {id(p): p for p in (*adaptation.params.values(), *prepared.head.values())} if trains else {}
    held |= trained
    embedded = optimizers.embeddings(adaptation.model)
    return Floor(
        weights_bytes=together({n: t.numel() * t.element_size() for n, t in held.items()}),
        gradients_bytes=together({n: p.numel() * p.element_size() for n, p in trained.items()}),
        optimizer_bytes=together(
            {n: optimizers.moment_bytes(optimizer, p.numel(), n in embedded) for n, p in trained.items()}
        ),
    )


def why_too_long(model: Any, objective: Objective | None, run: Run) -> str | None:
    """Why the run's texts don't fit the positions of a model, or None. A model with relative positions takes any length."""
    places = positions_of(model)
    if places is None or run.kind == "latency":  # whose cells say it one by one
        return None
    length = run.budget.max_length
    needed, said = _needed(model, objective, length, f"--max-length {length}")
    for task in run.retain:
        length = length_of(task)
        found = _needed(model, build_task(task).objective, length, f"--retain {task}, of {length} tokens")
        needed, said = max((needed, said), found, key=lambda one: one[0])
    if run.forgetting is not None and forgetting.TOKENS > needed:
        needed, said = forgetting.TOKENS, "the texts of --forgetting"
    if needed <= places:
        return None
    return f"the model has {places:,} positions, and {said} need {needed:,}; ask for shorter texts"


def _needed(model: Any, objective: Objective | None, length: int, said: str) -> tuple[int, str]:
    """The positions that a task's texts need, and for what; a text that is written stands behind the one that is read."""
    if objective is None or (decoding := objective.decoding) is None:
        return length, said
    new = decoding.max_new_tokens
    # An encoder-decoder writes behind a token of the decoder's own.
    needed = max(length, new + 1) if model.config.is_encoder_decoder else length + new
    return needed, f"{said} and max_new_tokens={new}"


def why_not_fitting(prepared: Prepared, trains: bool, device: Device, run: Run) -> str | None:
    """Why it can't fit, or None. To see what is forgotten or retained, the model is on the device without the method at first."""
    sharing = run.ranks if run.parallel == FSDP else 1
    needed, there = floor(prepared, trains, run.optimizer, sharing), device.memory_bytes
    dense = sum(p.numel() * p.element_size() for p in prepared.base) if run.looks_first else 0
    if dense > there:
        return (
            f"it does not fit: {'--retain' if run.retain else '--forgetting'} needs the model before training, {dense / 1e9:,.1f} GB of weights, and "
            f"there are {there / 1e9:,.1f} GB"
        )
    if needed.total_bytes <= there:
        return None
    parts = [("weights", needed.weights_bytes)]
    if trains:
        parts += [("gradients", needed.gradients_bytes), ("optimizer", needed.optimizer_bytes)]
    of = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in parts)
    where = "the GPU has" if device.kind == "cuda" else "this machine grants"
    if sharing > 1:
        where = f"each of {sharing} that share it has" if device.kind == "cuda" else where
    return (
        f"it does not fit: {needed.total_bytes / 1e9:,.1f} GB ({of}) before any activation, and {where} "
        f"{there / 1e9:,.1f} GB"
    )
