"""Many tasks on one base: switching merged weights from one task's to another's, and one batch that mixes tasks.

Hu et al. 2021 name both (section 4.2): a deployed model switches tasks by subtracting BA and adding B'A', cheaply; but
once merged, inputs of different tasks can't share a forward pass. Here both are timed, beside the ways around them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotSupported
from ..models.adaptation import Adaptation, Servable, weight_of
from .latency import Call, forward_of, over_shared_weights, random_inputs, take_turns

UPDATE, COPY = "subtract and add updates", "copy merged weights"
BASE, MIXED = "base, no task", "mixed in one pass"
IN_TURN, SWITCHED = "one task at a time", "one task at a time, merged, switching between"


@dataclass(frozen=True)
class ServingCell:
    """Raw times of a batch whose rows belong to different tasks, in milliseconds a round."""

    batch: int
    length: int
    ms: dict[str, list[float]] = field(default_factory=dict)
    refusal: str | None = None


@dataclass(frozen=True)
class Serving:
    """What it takes to serve several tasks with one method."""

    tasks: int
    adapter_bytes: int  # of one task's update: what is loaded for it
    merged_bytes: int  # of one task's merged layers
    model_bytes: int  # of a whole model a task
    switch_ms: dict[str, list[float]]  # from one task's merged weights to the next one's
    switches: int  # that had been done when the drift was read
    drift: float  # of the weights without any task: largest |W - W0| / |W0| of a layer, after subtracting the last task
    cells: list[ServingCell]


@torch.inference_mode()
def measure_serving(
    base: nn.Module,
    tasks: Sequence[Adaptation],
    cells: tuple[tuple[int, int], ...],
    device: torch.device,
    rounds: int,
) -> Serving:
    """Switch between tasks and serve batches of all of them.

    Args:
        base: whose weights all trees share; it is not written.
        tasks: one adaptation of the same method a task, each in a tree of its own.

    Raises:
        NotSupported: the method's wrappers can't do it.
    """
    wrappers = {name: [task.swaps[name][1] for task in tasks] for name in tasks[0].swaps}
    servable: dict[str, list[Servable]] = {}
    for name, present in wrappers.items():
        servable[name] = [wrapper for wrapper in present if isinstance(wrapper, Servable)]
    if not servable or any(len(of_layer) < len(tasks) for of_layer in servable.values()):
        raise NotSupported("its updates can't be added to a weight and removed again")
    merged = _Merged(base, servable)
    count = len(tasks)
    config: Any = base.config
    switch_ms = take_turns(
        {UPDATE: lambda: merged.switch_by_update((merged.task + 1) % count)}, rounds, device
    )
    switches = merged.switches
    drift = merged.drift()
    switch_ms |= take_turns({COPY: lambda: merged.switch_by_copy((merged.task + 1) % count)}, rounds, device)
    measured = []
    for batch, length in cells:
        if batch % count or batch < count:
            refusal = f"{batch} rows can't be shared evenly by {count} tasks"
            measured.append(ServingCell(batch, length, refusal=refusal))
            continue
        inputs = random_inputs(config.vocab_size, batch, length, device)
        rows = torch.arange(count, device=device).repeat_interleave(batch // count)
        mixed = over_shared_weights(base)
        for name, of_layer in servable.items():
            mixed.set_submodule(name, of_layer[0].mixed(of_layer, rows))
        models = [task.model for task in tasks]
        calls = {
            BASE: forward_of(base, inputs),
            MIXED: forward_of(mixed, inputs),
            IN_TURN: _in_turn(
                [forward_of(model, part) for model, part in zip(models, _cut(inputs, count), strict=True)]
            ),
            SWITCHED: _in_turn([merged.serving(task, part) for task, part in enumerate(_cut(inputs, count))]),
        }
        measured.append(ServingCell(batch, length, take_turns(calls, rounds, device)))
    return Serving(
        tasks=count,
        adapter_bytes=sum(t.nbytes for t in tasks[0].state().values()),
        merged_bytes=sum(weight_of(layer).nbytes for layer in merged.layers.values()),
        model_bytes=sum(p.nbytes for p in base.parameters()),
        switch_ms=switch_ms,
        switches=switches,
        drift=drift,
        cells=measured,
    )


class _Merged:
    """A tree whose adapted layers are copies of the base's with one task's update added."""

    def __init__(self, base: nn.Module, wrappers: dict[str, list[Servable]]) -> None:
        self.model, self.wrappers = over_shared_weights(base), wrappers
        self.originals = {name: base.get_submodule(name) for name in wrappers}
        self.layers = {name: copy.deepcopy(layer) for name, layer in self.originals.items()}
        for name, layer in self.layers.items():
            self.model.set_submodule(name, layer)
        self.task, self.switches = 0, 0
        self._add(0, +1.0)
        self.whole = [
            {name: weight_of(of_layer[task].fold()).clone() for name, of_layer in wrappers.items()}
            for task in range(len(next(iter(wrappers.values()))))
        ]

    def _add(self, task: int, sign: float) -> None:
        for name, layer in self.layers.items():
            self.wrappers[name][task].add_to(layer, sign)

    def switch_by_update(self, task: int) -> None:
        """W - BA + B'A'."""
        self._add(self.task, -1.0)
        self._add(task, +1.0)
        self.task, self.switches = task, self.switches + 1

    def serving(self, task: int, inputs: dict[str, Tensor]) -> Call:
        """A call that switches to a task and serves its rows."""

        forward = forward_of(self.model, inputs)

        def serve() -> None:
            self.switch_by_update(task)
            forward()

        return serve

    def switch_by_copy(self, task: int) -> None:
        for name, layer in self.layers.items():
            weight_of(layer).copy_(self.whole[task][name])
        self.task = task

    def drift(self) -> float:
        """How far the weights are from the base's once the present task is taken off."""
        self._add(self.task, -1.0)
        worst = max(
            float((weight_of(layer).float() - weight_of(self.originals[name]).float()).norm())
            / float(weight_of(self.originals[name]).float().norm())
            for name, layer in self.layers.items()
        )
        self._add(self.task, +1.0)
        return worst


def _cut(inputs: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """The rows of a batch, evenly."""
    chunks = {name: values.chunk(parts) for name, values in inputs.items()}
    return [{name: of_name[part] for name, of_name in chunks.items()} for part in range(parts)]


def _in_turn(calls: Sequence[Call]) -> Call:
    def all_of_them() -> None:
        for call in calls:
            call()

    return all_of_them
