"""Random streams do not touch each other."""

from __future__ import annotations

from peftbench.models.streams import stream_seed


def test_streams_are_apart() -> None:
    names = [("init", "lora", "a"), ("init", "lora", "b"), ("head",), ("order",), ("dropout",)]
    assert len({stream_seed(seed, *n) for n in names for seed in (0, 1)}) == 10
