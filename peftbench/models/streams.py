"""Random streams keyed by what they are for, so that no use of randomness shifts another.

One global seed would make the A matrix of a rank-8 LoRA exactly the first rows of the rank-64 one, and a method that
draws more numbers would see another order of the data. Each stream's seed is a hash of the run's seed and of names:
("init", method, layer), ("head",), ("order",), ("dropout",).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_init: ContextVar[tuple[int, str]] = ContextVar("peftbench_init_stream")


def stream_seed(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream `names` of a run with `seed`."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def stream(seed: int, *names: str) -> Iterator[None]:
    """Run the block on torch's generators, of the CPU and of a GPU in use, seeded for this stream; then put them back."""
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        # Of these alone: torch.manual_seed turns to every device, and takes sixteen times as long.
        for generator in (torch.default_generator, *(torch.cuda.default_generators[gpu] for gpu in gpus)):
            generator.manual_seed(stream_seed(seed, *names))
        yield


@contextmanager
def init_streams(seed: int, method: str) -> Iterator[None]:
    """Inside the block, `layer_stream(name)` draws from hash(seed, method, name)."""
    token = _init.set((seed, method))
    try:
        with stream(seed, "init", method):
            yield
    finally:
        _init.reset(token)


@contextmanager
def layer_stream(layer: str) -> Iterator[None]:
    """The initialisation stream of one layer; `swap` opens it around every layer that it builds."""
    seed, method = _init.get((0, ""))
    with stream(seed, "init", method, layer):
        yield
