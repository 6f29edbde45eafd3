"""What a generative model's user waits for: the first token after a prompt, then one token after the other.

Greedy, with a key-value cache. Each round a variant reads the whole prompt and decodes; the variants take turns as in
`latency`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..models.positions import made_for
from .clock import stopwatch
from .latency import Call, random_inputs, warm
from .turns import turns

WARMUP = 2  # rounds; each holds many forward passes


@dataclass(frozen=True)
class GenerationCell:
    """Raw times of one cell by variant, in milliseconds a round."""

    batch: int
    length: int  # of the prompt, in tokens
    new_tokens: int
    first_token_ms: dict[str, list[float]] = field(default_factory=dict)
    token_ms: dict[str, list[float]] = field(default_factory=dict)  # mean over the tokens after the first
    refusal: str | None = None


@torch.inference_mode()
def measure_generation(
    variants: Mapping[str, nn.Module],
    cells: tuple[tuple[int, int], ...],
    device: torch.device,
    rounds: int,
    new_tokens: int,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[GenerationCell]:
    """Time prompt and decoding of every variant in every cell.

    Args:
        cells: (batch, prompt length).
        new_tokens: decoded each round, at least two: the first comes with the prompt.
    """
    config: Any = next(iter(variants.values())).config
    longest = made_for(next(iter(variants.values())))
    time_ms = stopwatch(device)
    measured = []
    for done, (batch, length) in enumerate(cells):
        if longest is not None and length + new_tokens > longest:
            refusal = f"prompt and new tokens exceed the {longest} tokens that the model takes"
            measured.append(GenerationCell(batch, length, new_tokens, refusal=refusal))
            continue
        cell = GenerationCell(
            batch, length, new_tokens, {name: [] for name in variants}, {name: [] for name in variants}
        )
        prompt = random_inputs(config.vocab_size, batch, length, device)["input_ids"]
        for turn, order in enumerate(turns(list(variants), WARMUP + rounds)):
            for name in order:
                warm(_reading(variants[name], prompt, new_tokens), device)
                greedy = Greedy(variants[name], prompt, new_tokens)
                first_ms = time_ms(greedy.read)
                rest_ms = time_ms(greedy.decode)
                if turn >= WARMUP:
                    cell.first_token_ms[name].append(first_ms)
                    cell.token_ms[name].append(rest_ms / (new_tokens - 1))
        measured.append(cell)
        watch(done + 1, len(cells))
    return measured


def _reading(model: nn.Module, prompt: Tensor, new_tokens: int) -> Call:
    """Read the prompt, from an empty cache at each call."""
    return lambda: Greedy(model, prompt, new_tokens).read()


class Greedy:
    """Greedy decoding in its two parts."""

    def __init__(self, model: nn.Module, prompt: Tensor, new_tokens: int) -> None:
        """`prompt` is (batch, length), without padding."""
        self.model, self.prompt, self.new_tokens = model, prompt, new_tokens
        self.mask = prompt.new_ones(prompt.shape[0], prompt.shape[1] + new_tokens)
        # Only the last position's logits are needed; those of a long prompt would cost more than the model.
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if keeps else {})}
        self.tokens: list[Tensor] = []  # (batch, 1) each
        self.cache: Any = None

    def read(self) -> None:
        """The prompt in one pass, and the first token."""
        self._forward(self.prompt, self.prompt.shape[1])

    def decode(self) -> None:
        """The other tokens, each in a pass of its own over the cache."""
        for position in range(1, self.new_tokens):
            self._forward(self.tokens[-1], self.prompt.shape[1] + position)

    def _forward(self, tokens: Tensor, seen: int) -> None:
        out = self.model(
            input_ids=tokens, attention_mask=self.mask[:, :seen], past_key_values=self.cache, **self.options
        )
        self.cache = out.past_key_values
        self.tokens.append(out.logits[:, -1:].argmax(-1))
