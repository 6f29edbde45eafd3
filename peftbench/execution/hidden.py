"""Tensors that a method keeps where neither parameters nor buffers show them: attributes, lists, closures, its module.

What is not registered is not counted, does not move with the model and is not stored. One that trains there is trained and not
declared; one that outputs depend on is missing from the saved file.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..models.adaptation import Adaptation
from ..models.parted import without_gradients
from . import ranks

PLUGINS = "peftbench.methods."  # the package that every method's file is loaded into
MOST_OBJECTS = 200_000
MATTERS = 1e-5  # of the outputs' norm


def reached(roots: Iterable[tuple[str, object]]) -> Iterator[tuple[str, Any]]:
    """Every object that can be come to from the roots, with the way to it; code, types and the core's own are left out."""
    waiting = deque(roots)
    seen: set[int] = set()
    modules: set[str] = set()
    while waiting and len(seen) < MOST_OBJECTS:
        name, found = waiting.popleft()
        if id(found) in seen or isinstance(
            found, str | bytes | int | float | type | ModuleType | BuiltinFunctionType
        ):
            continue
        if _is_of_sharing(found):
            continue
        seen.add(id(found))
        yield name, found
        waiting.extend(_inside(name, found))
        home = getattr(found if isinstance(found, FunctionType) else type(found), "__module__", None) or ""
        if home.startswith(PLUGINS) and home not in modules:
            modules.add(home)
            waiting.extend(_of_module(home))


def _is_of_sharing(found: object) -> bool:
    """Whether it is torch's, for weights that processes share: what it keeps are the model's own."""
    home = getattr(type(found), "__module__", None) or ""
    return home.startswith("torch.distributed.") and not isinstance(found, Tensor | nn.Module)


def _of_module(home: str) -> Iterator[tuple[str, object]]:
    """What a plugin's file holds by itself, and in its classes."""
    for name, value in list(vars(sys.modules[home]).items()) if home in sys.modules else ():
        if isinstance(value, type) and value.__module__ == home:
            yield from (
                (f"{name}.{inner}", kept)
                for inner, kept in list(vars(value).items())
                if isinstance(kept, Tensor | dict | list | nn.Module)
            )
        elif isinstance(value, Tensor | dict | list | nn.Module) and not name.startswith("__"):
            yield name, value


def _inside(name: str, found: Any) -> Iterator[tuple[str, object]]:
    if isinstance(found, Tensor):
        return
    if isinstance(found, Mapping):
        yield from ((f"{name}[{key!r}]"[:80], value) for key, value in list(found.items()))
    elif isinstance(found, list | tuple | set | frozenset | deque):
        yield from ((f"{name}[{at}]", value) for at, value in enumerate(list(found)))
    elif isinstance(found, functools.partial):
        yield from ((name, part) for part in (found.func, found.args, found.keywords))
    elif isinstance(found, MethodType):
        yield from ((name, part) for part in (found.__self__, found.__func__))
    elif isinstance(found, FunctionType):
        for variable, cell in zip(found.__code__.co_freevars, found.__closure__ or (), strict=True):
            try:
                yield variable, cell.cell_contents
            except ValueError:  # not yet filled
                continue
        yield name, found.__defaults__
        yield name, found.__kwdefaults__
    elif isinstance(found, nn.Module):
        parts = {key: value for key, value in vars(found).items() if key != "_modules"}
        yield from ((f"{name}.{key}", value) for key, value in parts.items())
        yield from ((f"{name}.{key}", module) for key, module in found._modules.items())
    elif hasattr(found, "__dict__"):
        yield from ((f"{name}.{key}", value) for key, value in list(vars(found).items()))


def kept_by(adaptation: Adaptation) -> dict[str, Any]:
    """All that a method's model and its own callables lead to, by the way to it."""
    fields = ((f.name, getattr(adaptation, f.name)) for f in dataclasses.fields(adaptation))
    # Wrappers first: the way to what they hold then begins with their own names.
    wrappers = ((name, wrapper) for name, (_, wrapper) in adaptation.swaps.items())
    found: dict[str, Any] = {}
    for name, value in reached((*wrappers, *fields)):
        found.setdefault(name, value)
    return found


def tensors_of(model: nn.Module) -> set[int]:
    """The numbers of all tensors that a model leads to before a method comes: its own, wherever it keeps them."""
    return {id(found) for _, found in reached([("", model)]) if isinstance(found, Tensor)}


def added_bytes(adaptation: Adaptation, before: set[int]) -> int:
    """Bytes of all tensors that a method keeps and that were not there before it came, each once.

    Args:
        before: `tensors_of` the model before the method came.
    """
    sizes = {
        _place(found): found.untyped_storage().nbytes()
        for found in kept_by(adaptation).values()
        if isinstance(found, Tensor) and not found.is_meta and id(found) not in before
    }
    return sum(sizes.values())


class Hidden:
    """The tensors of a method that are not registered.

    Args:
        before: `tensors_of` the model before the method came.
        shown: what is declared, stored or registered.
    """

    def __init__(self, adaptation: Adaptation, before: set[int], shown: Iterable[Tensor]) -> None:
        shown = list(shown)
        places = {_place(tensor) for tensor in shown}
        known = {id(tensor) for tensor in shown} | before
        self.tensors = {
            name: found
            for name, found in kept_by(adaptation).items()
            if isinstance(found, Tensor)
            and found.numel()
            and not found.is_meta
            and id(found) not in known
            and _place(found) not in places
        }

    def training(self) -> list[str]:
        """Those that ask for a gradient and come from no other tensor: trained by somebody, and not declared."""
        return [name for name, tensor in self.tensors.items() if tensor.is_leaf and tensor.requires_grad]

    def mattering(self, look: Callable[[], Tensor]) -> list[str]:
        """Those that outputs change with.

        Args:
            look: gives outputs as things stand.
        """
        names = ranks.agreed(list(self.tensors))
        if not names:
            return []
        before = look()
        if not self._matter(names, look, before):
            return []
        return [name for name in names if self._matter([name], look, before)]

    def _matter(self, names: Iterable[str], look: Callable[[], Tensor], before: Tensor) -> bool:
        kept = []
        tensors = [self.tensors[name] for name in names if name in self.tensors]
        with without_gradients():
            for tensor in tensors:
                try:
                    original = tensor.clone()
                    _disturb(tensor)
                    kept.append((tensor, original))
                except (RuntimeError, NotImplementedError):  # it can't be written to, as an expanded view
                    continue
            try:
                after = look()
                moved = after.shape != before.shape or not (
                    float((after - before).norm()) <= MATTERS * float(before.norm())
                )
            except Exception:  # noqa: BLE001  with another tensor there it does not work: so it matters
                moved = True
            for tensor, original in kept:
                tensor.data.copy_(original)
        return moved


def _disturb(tensor: Tensor) -> None:
    """Other numbers of the same kind, within their range."""
    if tensor.dtype == torch.bool:
        tensor.data.logical_not_()
    else:
        tensor.data.copy_(tensor.flatten().flip(0).view(tensor.shape).clone())
        if tensor.is_floating_point():
            tensor.data.mul_(1.5).add_(0.25)


def _place(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (RuntimeError, NotImplementedError):
        return id(tensor)
