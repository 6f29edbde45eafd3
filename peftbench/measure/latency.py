"""Inference latency of one forward pass on a grid of batch x length: base, unmerged and merged, interleaved.

The three take turns round by round in one process, in an order that alternates, so that drift of the machine (clocks,
neighbours) reaches all alike. Nothing that training wrapped around `forward` is on: no autocast, no gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..adaptation import Adaptation
from .clock import synchronized_clock

WARMUP_ROUNDS = 10
ROUNDS = 100


@dataclass(frozen=True)
class LatencyCell:
    """Raw times of one cell, in milliseconds, by round. `merged_ms` is None where a method does not merge."""

    batch: int
    length: int
    base_ms: list[float]
    unmerged_ms: list[float]
    merged_ms: list[float] | None
    refusal: str | None = None  # why the cell could not be measured


@torch.inference_mode()
def measure_latency(
    adaptation: Adaptation,
    grid: tuple[tuple[int, int], ...],
    device: torch.device,
    rounds: int = ROUNDS,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[LatencyCell]:
    """Time every cell. The model must be settled, on its device and in evaluation mode.

    Args:
        grid: (batch, length) cells.
        watch: called with the cells done and their number.
    """
    model = adaptation.model
    vocabulary: int = model.config.vocab_size  # type: ignore[union-attr, assignment]
    longest = getattr(model.config, "max_position_embeddings", None)
    folded = adaptation.folded() if adaptation.mergeable and adaptation.swaps else None
    variants: dict[str, Callable[[], contextlib.AbstractContextManager[nn.Module]]] = {
        "base": adaptation.without,
        "unmerged": lambda: contextlib.nullcontext(model),
    }
    if folded is not None:
        variants["merged"] = lambda: adaptation.placed(folded)
    clock = synchronized_clock(device)
    generator = torch.Generator().manual_seed(0)
    cells = []
    for done, (batch, length) in enumerate(grid):
        if isinstance(longest, int) and length > longest:
            cells.append(
                LatencyCell(batch, length, [], [], None, f"the model takes at most {longest} tokens")
            )
            continue
        tokens = torch.randint(vocabulary // 2, (batch, length), generator=generator).to(device)
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        times: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(WARMUP_ROUNDS + rounds):
            for name in list(variants) if turn % 2 else reversed(list(variants)):
                with variants[name]() as placed:
                    started = clock()
                    placed(**inputs)
                    ended = clock()
                if turn >= WARMUP_ROUNDS:
                    times[name].append((ended - started) * 1e3)
        cells.append(LatencyCell(batch, length, times["base"], times["unmerged"], times.get("merged")))
        watch(done + 1, len(grid))
    return cells
