"""Fingerprints of weights: whether a tensor is, bit for bit, what it was, without a second copy of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..models.parted import whole

CHUNK = 1 << 20  # numbers of one step of a fingerprint: 8 MB of scratch


class Tensors:
    """The parameters and buffers of a model before a method comes, found again after it moved them about."""

    def __init__(self, model: nn.Module, without: Iterable[Tensor]) -> None:
        skipped = {id(tensor) for tensor in without}
        self.parameters = {n: p for n, p in model.named_parameters() if id(p) not in skipped}
        self.types = {n: p.dtype for n, p in self.parameters.items()}
        # A buffer is another tensor on another device, so it is asked for at its module.
        self.buffers = {
            f"{prefix}.{name}": (module, name)
            for prefix, module in model.named_modules()
            for name in module._buffers
        }

    def moved(self, to: Mapping[int, nn.Parameter]) -> None:
        """Note what stands in the places of parameters, by their numbers."""
        self.parameters = {name: to.get(id(p), p) for name, p in self.parameters.items()}

    def now(self) -> dict[str, Tensor]:
        """The tensors by name, as they are."""
        found: dict[str, Tensor] = dict(self.parameters)
        for place, (module, name) in self.buffers.items():
            buffer = module._buffers.get(name)
            if buffer is not None:
                found[place] = buffer
        return found

    def prints(self) -> dict[str, int]:
        """Their fingerprints in the type that they had: what trains has become float32, and is cast one tensor at a time."""
        return {
            name: fingerprint(whole(t.detach()).to(self.types.get(name, t.dtype)))
            for name, t in self.now().items()
        }


def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """A fingerprint of each tensor."""
    return {name: fingerprint(tensor) for name, tensor in tensors.items()}


def fingerprint(tensor: Tensor) -> int:
    """A 64-bit number for the exact bits of a tensor, computed where it lies: the same on every device.

    Each 32-bit word is multiplied by an odd number of its own and the products are summed modulo 2^64, so a change of
    any one word always shows, and one of several is missed with a chance of about 2^-63.
    """
    factors = _factors(tensor.device)
    total = len(tensor.shape)
    for part in _words(whole(tensor)).split(CHUNK):
        summed = int((part.long() * factors[: len(part)]).sum())
        total = (total * 6364136223846793005 + summed) % 2**64
    return total


@functools.cache
def _factors(device: torch.device) -> Tensor:
    """An odd number for each word of a chunk."""
    drawn = torch.randint(-(2**62), 2**62, (CHUNK,), generator=torch.Generator().manual_seed(0))
    return (drawn * 2 + 1).to(device)


def _words(tensor: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers, flat."""
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.dtype == torch.bool:
        return flat.to(torch.int8)
    if flat.is_floating_point():
        sizes = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
        return flat.view(sizes[flat.element_size()])
    return flat.view(torch.int32) if flat.element_size() == 8 else flat


def changed(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The names whose tensor is another now, or gone."""
    return [name for name, value in before.items() if after.get(name) != value]


def some(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
