"""The processes of one run, called ranks: which of them this one is, and what they tell each other.

Each rank does the whole run, on parts of its batches. What is asked for here is a sum, or a list, over all of them; a run in one
process has no others, and everything is then as it is. Numbers that ranks decide by are the same on each, so that none waits for a
message that another one never sends.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ..measure import parameters
from ..measure.bystanders import Bystanders, Seen
from ..measure.energy import Energy
from ..measure.memory import PeakMemory, higher
from ..models.parted import any_is_shared, here, is_parted, whole

T = TypeVar("T")
R = TypeVar("R")
BUCKET_BYTES = 64 * 2**20  # of gradients that are sent at once


def count() -> int:
    """Ranks of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if count() > 1 else 0


def mine(parts: Sequence[T], idle: T) -> list[T]:
    """Those of some parts that this rank does; together the ranks do each once.

    Each does as many, some `idle` for nothing: a rank that did one less would be waited for where weights come in parts.
    """
    its = list(parts[own() :: count()])
    return its + [idle] * (-(-len(parts) // count()) - len(its))


def gathered(value: T) -> list[T]:
    """What each rank gives, in their order. The values travel as pickles."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value)
    return found


def agreed(value: T) -> T:
    """Rank 0's, where ranks share weights: what one decides by it, whether to call the model again, all must decide."""
    if count() == 1 or not any_is_shared():
        return value
    found = [value]
    dist.broadcast_object_list(found, src=0)  # outputs may be 100 MB, which nobody wants of each
    return found[0]


def shared(work: Sequence[T], do: Callable[[T], R]) -> list[R]:
    """What comes of each piece of some work, in its order, whichever rank does it.

    Each rank does as many: one that has none left does another's for nothing, since it is waited for where weights come in parts.
    """
    if count() == 1:
        return [do(piece) for piece in work]
    found: list[tuple[int, R]] = []
    for begin in range(0, len(work), count()):
        place = begin + own()
        made = do(work[place if place < len(work) else begin])
        if place < len(work):
            found.append((place, made))
    return [made for _, made in sorted(itertools.chain(*gathered(found)), key=lambda one: one[0])]


def summed(value: Tensor) -> Tensor:
    """The sum over ranks, in place."""
    if count() > 1:
        dist.all_reduce(value)
    return value


def sum_gradients(trained: Sequence[nn.Parameter]) -> None:
    """Give each parameter the sum of its gradients over ranks, None where no rank has one. Those in parts were summed on their way back.

    Not the mean: each rank's loss is its share of the whole batch's.
    """
    alike = [p for p in trained if not is_parted(p)]
    if count() == 1 or not alike:
        return
    there = summed(torch.tensor([float(p.grad is not None) for p in alike], device=alike[0].device)).tolist()
    for bucket in _buckets([p for p, ranks in zip(alike, there, strict=True) if ranks]):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        parts = summed(torch.cat([g.flatten() for g in gradients])).split([p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def _buckets(trained: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    held = 0
    for parameter in trained:
        bucket.append(parameter)
        held += parameter.numel() * parameter.element_size()
        if held >= BUCKET_BYTES:
            yield bucket
            bucket, held = [], 0
    if bucket:
        yield bucket


def clip_gradients(trained: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale all gradients so that their norm, over all that trains, is at most so much; returns the norm before.

    As torch's `clip_grad_norm_`, for gradients of which some are whole on each rank and others in parts.
    """
    gradients = [p.grad for p in trained if p.grad is not None]
    alike = [g for g in gradients if not is_parted(g)]
    parts = [here(g) for g in gradients if is_parted(g)]
    squares = [torch.stack([g.norm().square() for g in its]).sum() for its in (alike, parts) if its]
    if not squares:
        return torch.zeros(())
    if parts:
        summed(squares[-1])
    norm = torch.stack(squares).sum().sqrt()
    factor = torch.clamp(most / (norm + 1e-6), max=1.0)
    for gradient in (*alike, *parts):
        gradient.mul_(factor)
    return norm


def peak(own_peak: PeakMemory | None) -> PeakMemory | None:
    """The highest peak of any rank, with the sum of all."""
    found = [its for its in gathered(own_peak) if its is not None]
    if len(found) < count() or count() == 1:
        return own_peak
    together = sum(its.headline_bytes or 0 for its in found)
    return dataclasses.replace(functools.reduce(higher, found), all_ranks_bytes=together)


def seen(bystanders: Bystanders) -> Seen:
    """What others than the ranks did meanwhile."""
    found = bystanders.seen(sum(gathered(bystanders.used_s())))
    on_gpus = [its for its in gathered(found.others_on_gpu) if its is not None]
    return dataclasses.replace(found, others_on_gpu=max(on_gpus, default=None))


def energy(used: Energy, device: torch.device) -> Energy:
    """What all ranks used: each reads the counter of its own GPU, and the processor's is of all."""
    found = [its.energy_j for its in gathered(used)]
    if device.type != "cuda" or any(joules is None for joules in found):
        return used
    return dataclasses.replace(used, energy_j=sum(joules for joules in found if joules is not None))


def save(tensors: Mapping[str, Tensor], file: Path) -> int:
    """Rank 0 writes tensors to a safetensors file, the others' file is a link to it; returns its size in bytes."""
    kept = {}
    for name, tensor in tensors.items():
        found = whole(tensor)  # one after the other: together they may be more than a GPU has
        kept[name] = found.cpu() if is_parted(tensor) else found
        if own():
            kept.clear()
    size = gathered(0 if own() else parameters.save(kept, file))[0]
    if own():
        file.symlink_to(file.parent.parent.resolve() / file.name)
    return size


def together() -> None:
    """Wait until every rank is here."""
    gathered(None)
