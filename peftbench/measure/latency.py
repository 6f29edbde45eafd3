"""Inference latency on a grid of batch x length: the base, a copy of it, and every method unmerged and merged.

All of them stand in one process over one set of base weights and take turns round by round, in orders drawn at
random, so that drift of the machine (clocks, neighbours) reaches all alike. The copy of the base is the noise
floor: what its reading departs from zero, the others' may as well. Nothing that training wrapped around `forward` is
on: no autocast, no gradient.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotSupported
from ..models.adaptation import Adaptation
from ..models.positions import made_for
from ..records.runs import BASE, COPY, merged_name
from .clock import stopwatch
from .turns import turns

WARMUP_ROUNDS, WARMUP_SHARE = 5, 0.2  # as the timed ones, dropped; of few timed rounds so large a share
UNTIMED_CALLS, UNTIMED_MS = 4, 20.0  # before each timed call: so many, or fewer that take so long
Call = Callable[[], object]


@dataclass(frozen=True)
class LatencyCell:
    """Raw times of one cell by variant, in milliseconds a round."""

    batch: int
    length: int
    ms: dict[str, list[float]] = field(default_factory=dict)
    refusal: str | None = None  # why the cell could not be measured


def into_own_memory(model: nn.Module) -> None:
    """Move weights that are mapped from their file into memory that was asked for, as merged layers' weights are.

    A processor reads mapped ones a little faster (on one CPU by 2 to 4 % of a pass at 1x16), so that whatever holds
    weights of its own beside them would seem to cost something.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def over_shared_weights(model: nn.Module) -> nn.Module:
    """A second tree of modules over the very same parameters and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def variants_of(base: nn.Module, adaptations: Mapping[str, Adaptation]) -> dict[str, nn.Module]:
    """Everything that takes turns, by name.

    Args:
        adaptations: method -> what it did to a tree of its own over the base's weights, settled.
    """
    variants = {BASE: base, COPY: copy.deepcopy(base)}
    for method, adaptation in adaptations.items():
        variants[method] = adaptation.model
        if adaptation.mergeable and adaptation.swaps:
            merged = over_shared_weights(base)
            for name, layer in adaptation.folded().items():
                merged.set_submodule(name, layer)
            variants[merged_name(method)] = merged
    return variants


@torch.inference_mode()
def measure_latency(
    variants: Mapping[str, nn.Module],
    cells: tuple[tuple[int, int], ...],
    device: torch.device,
    rounds: int,
    execution: str = "eager",
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[LatencyCell]:
    """Time one forward pass of every variant in every cell. The models are on the device, in evaluation mode.

    Args:
        cells: (batch, length); tokens are drawn at random, without padding.
        rounds: timed passes of each variant, after warm-up.
        execution: one of `EXECUTIONS`.
        watch: called with the cells done and their number.

    Raises:
        NotSupported: the execution is not possible here.
    """
    config: Any = next(iter(variants.values())).config
    longest = made_for(next(iter(variants.values())))
    measured = []
    for done, (batch, length) in enumerate(cells):
        if longest is not None and length > longest:
            measured.append(LatencyCell(batch, length, refusal=f"the model takes at most {longest} tokens"))
            continue
        inputs = random_inputs(config.vocab_size, batch, length, device)
        with _ready(variants, inputs, execution, device) as calls:
            measured.append(LatencyCell(batch, length, take_turns(calls, rounds, device)))
        watch(done + 1, len(cells))
    return measured


def random_inputs(vocabulary: int, batch: int, length: int, device: torch.device) -> dict[str, Tensor]:
    """Token ids and a mask of ones, (batch, length) each; the same for the same shape."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary // 2, (batch, length), generator=generator).to(device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def take_turns(calls: Mapping[str, Call], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of each call by round; warm-up is dropped.

    Each timed call follows untimed ones of the same variant, so that its weights lie in the cache as they do when it
    serves alone, and not as the neighbours' turns left them: weights that several variants share would profit.
    """
    time_ms = stopwatch(device)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    dropped = warmup_rounds(rounds)
    for turn, order in enumerate(turns(list(calls), dropped + rounds)):
        for name in order:
            warm(calls[name], device)
            ms = time_ms(calls[name])
            if turn >= dropped:
                taken[name].append(ms)
    return taken


def warmup_rounds(rounds: int) -> int:
    """Rounds that come before so many timed ones."""
    return min(WARMUP_ROUNDS, math.ceil(WARMUP_SHARE * rounds))


def warm(call: Call, device: torch.device) -> None:
    """Untimed calls: short ones need several until the cache holds what it would without the others."""
    time_ms, left = stopwatch(device), UNTIMED_MS
    for _ in range(UNTIMED_CALLS):
        left -= time_ms(call)
        if left <= 0:
            return


@contextlib.contextmanager
def _ready(
    variants: Mapping[str, nn.Module], inputs: dict[str, Tensor], execution: str, device: torch.device
) -> Iterator[dict[str, Call]]:
    """For each variant a call that runs its forward pass in the way asked for."""
    if execution == "compile":
        with _compiled(variants) as forwards:
            yield {name: _call(forward, inputs) for name, forward in forwards.items()}
    elif execution == "cuda-graphs":
        if device.type != "cuda":
            raise NotSupported("CUDA graphs need a CUDA GPU; use the execution eager or compile on a CPU")
        yield {name: _graph(model, inputs) for name, model in variants.items()}
    else:
        yield {name: _call(model, inputs) for name, model in variants.items()}


def _call(forward: Callable[..., object], inputs: dict[str, Tensor]) -> Call:
    return lambda: forward(**inputs)


@contextlib.contextmanager
def _compiled(variants: Mapping[str, nn.Module]) -> Iterator[dict[str, Callable[..., object]]]:
    """Every variant compiled for itself. Beyond its limit of recompilations torch would fall back to eager in silence."""
    import torch._dynamo.config as limits

    torch._dynamo.reset()
    before = limits.recompile_limit, limits.fail_on_recompile_limit_hit
    limits.recompile_limit, limits.fail_on_recompile_limit_hit = 4 * len(variants) + 8, True
    try:
        yield {name: torch.compile(model, dynamic=False) for name, model in variants.items()}
    finally:
        limits.recompile_limit, limits.fail_on_recompile_limit_hit = before


def _graph(model: nn.Module, inputs: dict[str, Tensor]) -> Call:
    """The forward pass captured once, replayed at each call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up outside the capture
        for _ in range(3):
            model(**inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(**inputs)
    return graph.replay
