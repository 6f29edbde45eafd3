"""Inference latency on a grid of batch x length: the base, a copy of it, and every method unmerged and merged.

All of them stand in one process over one set of base weights and take turns round by round, in orders drawn at
random, so that drift of the machine (clocks, neighbours) reaches all alike. The copy of the base is the noise
floor: what its reading departs from zero, the others' may as well. Nothing that training wrapped around `forward` is
on: no autocast, no gradient. Of a language model it is the pass that reads a prompt: the logits of the last position alone.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotSupported
from ..models.adaptation import Adaptation
from ..models.positions import made_for
from ..models.precision import LINEAR
from ..records.runs import BASE, COPY, merged_name
from .clock import stopwatch
from .turns import turns

WARMUP_ROUNDS, WARMUP_SHARE = 5, 0.2  # as the timed ones, dropped; of few timed rounds so large a share
UNTIMED_CALLS, UNTIMED_MS = 4, 20.0  # before each timed call: so many, or fewer that take so long
# A pass that takes longer needs no untimed one: filling the cache anew is 1 % of it or less.
LONG_MS = {"cpu": 500.0, "cuda": 20.0}
LEAST_ROUNDS = 3  # timed ones, however little time there is
COPIED_BYTES = 2 * 2**30  # up to here a base on a CPU is copied whole for the noise floor
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


def noise_floor(base: nn.Module) -> nn.Module:
    """The base once more, with weights that lie elsewhere in memory.

    On a CPU it is where all weights lie that makes two equal models differ, so a small one is copied whole. On a GPU, and of a model
    that fills the memory, one layer has a copy of its own, as merged layers are copies; the rest are the base's own weights.
    """
    weights = list(base.parameters())
    if all(p.device.type == "cpu" for p in weights) and sum(p.nbytes for p in weights) <= COPIED_BYTES:
        return copy.deepcopy(base)
    tree = over_shared_weights(base)
    name, layer = next((name, module) for name, module in base.named_modules() if isinstance(module, LINEAR))
    tree.set_submodule(name, copy.deepcopy(layer))
    return tree


def turn_sets(base: nn.Module, adaptations: Mapping[str, Adaptation]) -> list[list[str]]:
    """Methods that take turns together: all of them, unless their merged layers weigh more than the base together.

    Then there are several sets, each with the base, of which one at a time is in memory: so no more than the base's weights are
    held twice, however many methods merge.

    Args:
        adaptations: method -> what it did to a tree of its own over the base's weights.
    """
    room = sum(p.nbytes for p in base.parameters())
    sets: list[list[str]] = [[]]
    held = 0
    for method, adaptation in adaptations.items():
        weight = sum(p.nbytes for layer, _ in _folding(adaptation).values() for p in layer.parameters())
        if held and held + weight > room:
            sets.append([])
            held = 0
        sets[-1].append(method)
        held += weight
    return sets


def variants_of(
    base: nn.Module, adaptations: Mapping[str, Adaptation], with_copy: bool = True
) -> dict[str, nn.Module]:
    """Everything that takes turns, by name.

    Args:
        adaptations: method -> what it did to a tree of its own over the base's weights, settled.
        with_copy: the noise floor too, which is the same for all methods.
    """
    variants = {BASE: base, **({COPY: noise_floor(base)} if with_copy else {})}
    for method, adaptation in adaptations.items():
        variants[method] = adaptation.model
        if _folding(adaptation):
            merged = over_shared_weights(base)
            for name, layer in adaptation.folded().items():
                merged.set_submodule(name, layer)
            variants[merged_name(method)] = merged
    return variants


def _folding(adaptation: Adaptation) -> dict[str, tuple[nn.Module, nn.Module]]:
    """The swaps of a method that merges; none of one that does not."""
    return adaptation.swaps if adaptation.mergeable else {}


@torch.inference_mode()
def measure_latency(
    variants: Mapping[str, nn.Module],
    cells: tuple[tuple[int, int], ...],
    device: torch.device,
    rounds: int,
    execution: str = "eager",
    budget_s: float | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[LatencyCell]:
    """Time one forward pass of every variant in every cell. The models are on the device, in evaluation mode.

    Args:
        cells: (batch, length); tokens are drawn at random, without padding.
        rounds: timed passes of each variant, after warm-up.
        execution: one of `EXECUTIONS`.
        budget_s: for all cells; rounds end where a cell's share of what is left is spent, at the earliest after `LEAST_ROUNDS`.
        watch: called with the cells done and their number.

    Raises:
        NotSupported: the execution is not possible here.
    """
    base = next(iter(variants.values()))
    longest = made_for(base)
    measured = []
    ends_s = None if budget_s is None else time.monotonic() + budget_s
    for done, (batch, length) in enumerate(cells):
        if longest is not None and length > longest:
            measured.append(LatencyCell(batch, length, refusal=f"the model takes at most {longest} tokens"))
            continue
        inputs = pass_inputs(base, batch, length, device)
        share_s = None if ends_s is None else (ends_s - time.monotonic()) / (len(cells) - done)
        try:
            with _ready(variants, inputs, execution, device) as calls:
                cell = LatencyCell(batch, length, take_turns(calls, rounds, device, share_s))
        except torch.OutOfMemoryError:
            cell = _with_those_that_fit(variants, inputs, (batch, length), device, rounds)
        measured.append(cell)
        watch(done + 1, len(cells))
    return measured


def _with_those_that_fit(
    variants: Mapping[str, nn.Module],
    inputs: dict[str, Tensor],
    place: tuple[int, int],
    device: torch.device,
    rounds: int,
) -> LatencyCell:
    """The cell without the variants that have not enough memory for it: the others, and other cells, are good all the same."""
    fitting = {}
    for name, model in variants.items():
        with contextlib.suppress(torch.OutOfMemoryError):
            call = forward_of(model, inputs)
            call()
            fitting[name] = call
    if BASE not in fitting:
        return LatencyCell(*place, refusal="there is not enough memory for it")
    return LatencyCell(*place, take_turns(fitting, rounds, device))


def random_inputs(vocabulary: int, batch: int, length: int, device: torch.device) -> dict[str, Tensor]:
    """Token ids and a mask of ones, (batch, length) each; the same for the same shape."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary // 2, (batch, length), generator=generator).to(device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def pass_inputs(model: nn.Module, batch: int, length: int, device: torch.device) -> dict[str, Tensor]:
    """The same for a forward pass of that model, with what an encoder-decoder asks for: to write it begins with its start token, to
    classify it looks for one end token."""
    config: Any = model.config
    inputs = random_inputs(config.vocab_size, batch, length, device)
    if getattr(config, "is_encoder_decoder", False):
        if model.can_generate():  # type: ignore[operator]
            start = torch.full((batch, 1), config.decoder_start_token_id, device=device)
            return {**inputs, "decoder_input_ids": start}
        ids, end = inputs["input_ids"], config.eos_token_id
        ids[ids == end] = end + 1
        ids[:, -1] = end
    return inputs


def last_logits(model: nn.Module) -> dict[str, Any]:
    """The option of a language model's forward pass that computes the logits of the last position alone.

    The next token needs no others, and those of a long prompt would cost more than the model.
    """
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def forward_of(
    model: nn.Module, inputs: Mapping[str, Tensor], forward: Callable[..., object] | None = None
) -> Call:
    """One forward pass as it is timed.

    Args:
        forward: what runs it, where that is not the model itself.
    """
    options, run = last_logits(model), model if forward is None else forward
    return lambda: run(**inputs, **options)


def take_turns(
    calls: Mapping[str, Call], rounds: int, device: torch.device, budget_s: float | None = None
) -> dict[str, list[float]]:
    """Milliseconds of each call by round; warm-up is dropped.

    Each timed call follows untimed ones of the same variant, so that its weights lie in the cache as they do when it
    serves alone, and not as the neighbours' turns left them: weights that several variants share would profit.
    """
    time_ms = stopwatch(device)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    last_ms = dict.fromkeys(calls, 0.0)
    dropped = warmup_rounds(rounds)
    started_s = time.monotonic()
    for turn, order in enumerate(turns(list(calls), dropped + rounds)):
        if (
            budget_s is not None
            and turn >= dropped + LEAST_ROUNDS
            and time.monotonic() - started_s > budget_s
        ):
            break
        for name in order:
            if last_ms[name] <= LONG_MS[device.type]:
                warm(calls[name], device)
            last_ms[name] = time_ms(calls[name])
            if turn >= dropped:
                taken[name].append(last_ms[name])
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
        with compiled(variants) as forwards:
            yield {name: forward_of(variants[name], inputs, forward) for name, forward in forwards.items()}
    elif execution == "cuda-graphs":
        if device.type != "cuda":
            raise NotSupported("CUDA graphs need a CUDA GPU; use the execution eager or compile on a CPU")
        yield {name: _graph(model, inputs) for name, model in variants.items()}
    else:
        yield {name: forward_of(model, inputs) for name, model in variants.items()}


@contextlib.contextmanager
def compiled(variants: Mapping[str, nn.Module]) -> Iterator[dict[str, Callable[..., object]]]:
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
    call = forward_of(model, inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up outside the capture
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
