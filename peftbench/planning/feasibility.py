"""Whether a run can fit the memory of its device at all: what weights, gradients and optimizer need, by arithmetic.

It is a floor. Activations, copies of weights in the compute type and the libraries come on top, so a run that passes may still run
out of memory, which is a row of its own then; one that does not pass can't be done.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.protocol import Device
from ..execution.prepare import Prepared
from ..models.adaptation import Adaptation

ADAM_BYTES = 8  # of each trained number: two moments in float32


@dataclass(frozen=True)
class Floor:
    """Bytes that are there at once in every training step, whatever the batch."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.gradients_bytes + self.optimizer_bytes


def floor(prepared: Prepared, trains: bool) -> Floor:
    """The floor of a model with a method in it, which may be without weights (on the meta device).

    Args:
        trains: in steps; otherwise it has weights alone.
    """
    adaptation: Adaptation = prepared.adaptation
    held = {id(t): t for t in (*adaptation.model.parameters(), *adaptation.model.buffers())}
    trained = {id(p): p for p in (*adaptation.params.values(), *prepared.head.values())} if trains else {}
    held |= trained
    return Floor(
        weights_bytes=sum(t.numel() * t.element_size() for t in held.values()),
        gradients_bytes=sum(p.numel() * p.element_size() for p in trained.values()),
        optimizer_bytes=sum(p.numel() * ADAM_BYTES for p in trained.values()),
    )


def why_not_fitting(
    prepared: Prepared, trains: bool, device: Device, whole_first: bool = False
) -> str | None:
    """Why it can't fit, or None.

    Args:
        whole_first: the model is on the device without the method at first, its weights in float32.
    """
    needed, there = floor(prepared, trains), device.memory_bytes
    dense = sum(p.numel() * p.element_size() for p in prepared.base) if whole_first else 0
    if dense > there:
        return (
            f"it does not fit: --forgetting looks at the model before training, {dense / 1e9:,.1f} GB in float32, and "
            f"there are {there / 1e9:,.1f} GB"
        )
    if needed.total_bytes <= there:
        return None
    parts = [("weights", needed.weights_bytes)]
    if trains:
        parts += [("gradients", needed.gradients_bytes), ("optimizer", needed.optimizer_bytes)]
    of = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in parts)
    where = "the GPU has" if device.kind == "cuda" else "this machine grants"
    return (
        f"it does not fit: {needed.total_bytes / 1e9:,.1f} GB ({of}) before any activation, and {where} "
        f"{there / 1e9:,.1f} GB"
    )
