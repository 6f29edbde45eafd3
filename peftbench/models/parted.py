"""Tensors of which each process of a run holds a part, where the processes share the weights of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

P = ParamSpec("P")
R = TypeVar("R")


def is_parted(tensor: Tensor) -> bool:
    """Whether this process holds a part of it alone."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every process; every one asks for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def here(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(tensor: Tensor, values: Tensor) -> None:
    """Put the numbers of a whole tensor in its place."""
    if isinstance(tensor, DTensor):
        values = distribute_tensor(
            values.to(tensor.device, tensor.dtype), tensor.device_mesh, tensor.placements
        )
    tensor.copy_(values)


def is_of_sharing(hook: object) -> bool:
    """Whether a hook of a module is torch's, which puts weights together for a pass."""
    return str(getattr(hook, "__module__", None)).startswith("torch.distributed.fsdp.")


_shared: WeakSet[FSDPModule] = WeakSet()  # models of this process that others hold parts of, too


def is_shared_from_now_on(model: FSDPModule) -> None:
    """Note a model whose weights are put together for a pass."""
    _shared.add(model)


def is_shared(model: object) -> bool:
    """Whether each process holds a part of its weights alone, so that all must call it as often."""
    return model in _shared


def any_is_shared() -> bool:
    """Whether there is such a model: what one process leaves undone, the others would wait for."""
    return len(_shared) > 0


@contextmanager
def without_gradients() -> Iterator[None]:
    """Torch's inference mode. Where processes share weights: no gradients, since those put together in that mode could never train.

    Afterwards each holds its part alone again, as it does after a backward pass.
    """
    with torch.no_grad() if _shared else torch.inference_mode():
        yield
    for model in _shared:
        model.reshard()


@contextmanager
def outside_whole() -> Iterator[None]:
    """For the block, what lies outside the blocks of shared models is put together: parts of a model can be called without the whole."""
    for model in _shared:
        model.unshard()
    try:
        yield
    finally:
        for model in _shared:
            model.reshard()


def inferring(function: Callable[P, R]) -> Callable[P, R]:
    """A function that is called without gradients."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with without_gradients():
            return function(*args, **kwargs)

    return call
