"""What a training step's memory is made of, at the moment when it is highest.

A dispatch mode sees every operator and what it returns, and follows each storage from there until it is freed; so the
count is exact on every device, and storages that views share count once. What an operator takes and gives back inside
itself is not seen. The moment of the peak is found in one step and looked at in the next one, which does the same:
separate maxima of the kinds would not add up, since full fine-tuning often peaks in the optimizer, where no activations
are left.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class MemoryByKind:
    """Bytes alive at the peak of a training step, the model's among them; every storage once."""

    weights_bytes: int  # parameters and buffers, trained or not
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int  # saved for backward
    other_bytes: int  # temporaries of the operator at work, the batch, gradients of activations
    operator: str  # during which the peak is reached
    allocator_peak_bytes: int | None  # CUDA: the allocator's own peak in the same step

    @property
    def total_bytes(self) -> int:
        return (
            self.weights_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.other_bytes
        )


def memory_by_kind(
    step: Callable[[], object],
    model: nn.Module,
    optimizer: Any,
    device: torch.device,
    aside: Iterable[Tensor] = (),
) -> MemoryByKind:
    """Run a step twice and say what is alive at its peak. The optimizer's state must exist: step before.

    Args:
        step: one whole training step, that does the same each time.
        optimizer: with `state`, as torch's.
        aside: weights that are kept while others stand in for them.
    """
    weights = [*model.parameters(), *model.buffers(), *aside]
    state = [t for of_one in optimizer.state.values() for t in of_one.values() if isinstance(t, Tensor)]
    found = _Live([*weights, *state])
    with found, _Saved():
        step()
    seen, saved = _Live([*weights, *state]), _Saved()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)

    kinds: dict[str, int] = {}

    def look(live: Mapping[int, int]) -> None:
        of = {
            "weights": _keys(weights),
            "gradients": _keys(p.grad for p in model.parameters() if p.grad is not None),
            "optimizer": _keys(state),
            "activations": set(saved.counts),
        }
        for key, size in live.items():
            kind = next((kind for kind, keys in of.items() if key in keys), "other")
            kinds[kind] = kinds.get(kind, 0) + size

    seen.at, seen.look = found.peak_at, look
    with seen, saved:
        step()
    allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return MemoryByKind(
        weights_bytes=kinds.get("weights", 0),
        gradients_bytes=kinds.get("gradients", 0),
        optimizer_bytes=kinds.get("optimizer", 0),
        activations_bytes=kinds.get("activations", 0),
        other_bytes=kinds.get("other", 0),
        operator=found.peak_in,
        allocator_peak_bytes=allocated,
    )


def _keys(tensors: Iterable[Tensor]) -> set[int]:
    """Storages, by their address in torch: it is theirs as long as they live."""
    return {tensor.untyped_storage()._cdata for tensor in tensors}


class _Live(TorchDispatchMode):
    """Bytes of every storage alive that it was given or that an operator returned."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[int, int] = {}
        self.watches: dict[int, Any] = {}
        self.total = self.peak = self.done = self.peak_at = 0
        self.peak_in = ""
        self.at: int | None = None  # after this many operators, `look`
        self.look: Callable[[Mapping[int, int]], None] = lambda live: None
        for tensor in known:
            self.follow(tensor)

    def follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        if key in self.live:
            return
        self.live[key] = storage.nbytes()
        self.total += storage.nbytes()
        self.watches[key] = weakref.ref(storage, lambda _: self._freed(key))

    def _freed(self, key: int) -> None:
        self.total -= self.live.pop(key, 0)
        self.watches.pop(key, None)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        returned = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, returned)):
            if isinstance(leaf, Tensor):
                self.follow(leaf)
        self.done += 1
        if self.total > self.peak:
            self.peak, self.peak_at, self.peak_in = self.total, self.done, str(function)
        if self.done == self.at:
            self.look(self.live)
        return returned


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """How often each storage is held for backward."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        super().__init__(self._pack, _unpack)

    def _pack(self, tensor: Tensor) -> _Held:
        held = _Held(tensor.detach())  # not the tensor itself: it would hold the graph that holds it
        key: int = held.tensor.untyped_storage()._cdata
        self.counts[key] = self.counts.get(key, 0) + 1
        weakref.finalize(held, self._released, key)
        return held

    def _released(self, key: int) -> None:
        self.counts[key] -= 1
        if not self.counts[key]:
            del self.counts[key]


class _Held:
    """A tensor saved for backward."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _unpack(held: _Held) -> Tensor:
    return held.tensor
