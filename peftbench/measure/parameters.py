"""How many numbers a method trains, and how many bytes it leaves on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..models.adaptation import Adaptation


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers; a tensor that two modules share counts once."""

    adapter: int  # trained beside the head
    head: int
    model: int  # all of the base model and its head, without what the method added
    stored: int  # numbers in what is saved, without the head
    stored_bytes: int | None = None  # size of the saved file, without the head; None until it is written

    @property
    def trained(self) -> int:
        return self.adapter + self.head


def count(tensors: Iterable[Tensor]) -> int:
    """Numbers in distinct tensors."""
    return sum({id(t): t.numel() for t in tensors}.values())


def count_parameters(
    adaptation: Adaptation, head: Mapping[str, Tensor], base: Iterable[Tensor]
) -> Parameters:
    """The counts of an adapted model; `base` are the parameters it had before."""
    return Parameters(
        adapter=count(adaptation.params.values()),
        head=count(head.values()),
        model=count(base),
        stored=count(adaptation.state().values()),
    )


def save(tensors: Mapping[str, Tensor], file: Path) -> int:
    """Write tensors to a safetensors file, each storage once, and return its size in bytes."""
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        if not tensor.numel() or tensor.data_ptr() not in seen:  # tensors without numbers all lie at 0
            seen.add(tensor.data_ptr())
            kept[name] = tensor.detach().to("cpu", copy=False).contiguous()
    with torch.no_grad():
        save_file(kept, file)
    return file.stat().st_size
