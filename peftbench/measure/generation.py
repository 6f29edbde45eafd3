"""What a generative model's user waits for: the first token after a prompt, then one token after the other.

Greedy, with a key-value cache. Each round a variant reads the whole prompt and decodes; the variants take turns as in
`latency`. Compiled, a pass over a growing cache would be compiled anew for each token: it gets a static one, of one length from the first token on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StaticCache

from ..models.positions import made_for
from .clock import stopwatch
from .latency import Call, compiled, last_logits, random_inputs, warm
from .turns import turns

WARMUP = 2  # rounds; each holds many forward passes
NO_GRAPHS = "a CUDA graph replays one shape, and a text grows; use the execution eager or compile"


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
    execution: str = "eager",
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[GenerationCell]:
    """Time prompt and decoding of every variant in every cell.

    Args:
        cells: (batch, prompt length).
        new_tokens: decoded each round, at least two: the first comes with the prompt.
        execution: one of `EXECUTIONS`; none is timed in the place of another.
    """
    config: Any = next(iter(variants.values())).config
    longest = made_for(next(iter(variants.values())))
    time_ms = stopwatch(device)
    measured = []
    for done, (batch, length) in enumerate(cells):
        refusal = NO_GRAPHS if execution == "cuda-graphs" else None
        if longest is not None and length + new_tokens > longest:
            refusal = f"prompt and new tokens exceed the {longest} tokens that the model takes"
        if refusal is not None:
            measured.append(GenerationCell(batch, length, new_tokens, refusal=refusal))
            continue
        cell = GenerationCell(
            batch, length, new_tokens, {name: [] for name in variants}, {name: [] for name in variants}
        )
        prompt = random_inputs(config.vocab_size, batch, length, device)["input_ids"]
        with _decoders(variants, prompt, new_tokens, execution) as begin:
            for turn, order in enumerate(turns(list(variants), WARMUP + rounds)):
                for name in order:
                    warm(_reading(begin[name]), device)
                    greedy = begin[name]()
                    first_ms = time_ms(greedy.read)
                    rest_ms = time_ms(greedy.decode)
                    if turn >= WARMUP:
                        cell.first_token_ms[name].append(first_ms)
                        cell.token_ms[name].append(rest_ms / (new_tokens - 1))
        measured.append(cell)
        watch(done + 1, len(cells))
    return measured


@contextmanager
def _decoders(
    variants: Mapping[str, nn.Module], prompt: Tensor, new_tokens: int, execution: str
) -> Iterator[dict[str, Callable[[], Greedy]]]:
    """For each variant what begins a text, in the way asked for."""
    if execution == "eager":
        yield {name: partial(Greedy, model, prompt, new_tokens) for name, model in variants.items()}
        return
    with compiled(variants) as forwards:
        begin: dict[str, Callable[[], Greedy]] = {}
        caches: dict[int, StaticCache] = {}  # variants take turns, so those of one length share one
        for name, model in variants.items():
            probe = Greedy(model, prompt, new_tokens)
            probe.read()  # which tells how many places a variant fills: some add tokens of their own
            length = int(probe.cache.get_seq_length()) + new_tokens
            config: Any = model.config
            if length not in caches:
                caches[length] = StaticCache(config=config, max_cache_len=length)
                Greedy(model, prompt, new_tokens, model, caches[length]).read()  # it takes its memory
            begin[name] = partial(Greedy, model, prompt, new_tokens, forwards[name], caches[length])
        yield begin


def _reading(begin: Callable[[], Greedy]) -> Call:
    """Read the prompt, from an empty cache at each call."""
    return lambda: begin().read()


class Greedy:
    """Greedy decoding in its two parts."""

    def __init__(
        self,
        model: nn.Module,
        prompt: Tensor,
        new_tokens: int,
        forward: Callable[..., Any] | None = None,
        cache: StaticCache | None = None,
    ) -> None:
        """`prompt` is (batch, length), without padding.

        Args:
            forward: what runs the model's pass, where that is not the model itself.
            cache: one of a fixed length, emptied here; None: one that grows with the text.
        """
        self.run = model if forward is None else forward
        self.prompt, self.new_tokens = prompt, new_tokens
        self.options: dict[str, Any] = {"use_cache": True, **last_logits(model)}
        self.tokens: list[Tensor] = []  # (batch, 1) each
        self.cache: Any = cache
        self.mask = None  # a mask that grows would be another shape at each token
        if cache is None:
            self.mask = prompt.new_ones(prompt.shape[0], prompt.shape[1] + new_tokens)
        else:
            cache.reset()

    def read(self) -> None:
        """The prompt in one pass, and the first token."""
        self._forward(self.prompt, self.prompt.shape[1])

    def decode(self) -> None:
        """The other tokens, each in a pass of its own over the cache."""
        for position in range(1, self.new_tokens):
            self._forward(self.tokens[-1], self.prompt.shape[1] + position)

    def _forward(self, tokens: Tensor, seen: int) -> None:
        mask = None if self.mask is None else self.mask[:, :seen]
        out = self.run(input_ids=tokens, attention_mask=mask, past_key_values=self.cache, **self.options)
        self.cache = out.past_key_values
        self.tokens.append(out.logits[:, -1:].argmax(-1))
