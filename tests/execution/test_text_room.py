"""How many texts are written at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftbench import Completion, Decoding
from peftbench.execution import batches
from peftbench.execution.generate import generate
from peftbench.execution.text_room import TextRoom, room_in, text_room
from peftbench.execution.train import accelerator_for
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model

Of = Callable[[str], str]


def test_short_sources_go_many_at_once(checkpoint: Of) -> None:
    """Each batch by its own longest source; on a CPU by the longest of all, as ever."""
    loaded = load_model(resolve_model(checkpoint("llama")), Completion(), 0)
    lengths = np.array([6, 30, 6, 6, 6, 6])
    tokens = batches.Ragged(np.arange(lengths.sum()) % 90 + 5, np.concatenate([[0], np.cumsum(lengths)]))
    sources = batches.Encoded({"input_ids": tokens}, {}, {})
    decoding, accelerator = Decoding(max_new_tokens=2), accelerator_for("cpu", "float32")
    found = {
        by_all: generate(
            loaded.model, loaded.tokenizer, sources, decoding, accelerator, TextRoom(40, 0, by_all)
        )
        for by_all in (False, True)
    }
    assert [(w.batches, w.largest_batch) for w in found.values()] == [(2, 5), (6, 1)]
    assert found[False].texts == found[True].texts
    assert TextRoom(40, text_tokens=3).of_a_text(6, Decoding(4, max_new_tokens=2)) == (6 + 2 + 3) * 4


@pytest.mark.parametrize(
    ("family", "block"),
    [("llama", 32 + 16 + 16 + 32 + 64 + 64 + 32), ("gpt2", 96 + 32 + 128 + 32), ("t5", 3 * 128 + 2 * 96)],
)
def test_room_is_counted_from_what_a_token_and_a_text_take(family: str, block: int, checkpoint: Of) -> None:
    """Keys and values as a cache holds them, and what the linear layers of a block give."""
    model: Any = load_model(resolve_model(checkpoint(family)), Completion(decoder_start=0), 0).model
    ids = torch.arange(5, 15)[None]
    given = {"decoder_input_ids": ids} if family == "t5" else {}
    cache = model(input_ids=ids, use_cache=True, **given).past_key_values
    cache = getattr(cache, "self_attention_cache", cache)
    cached = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) / ids.numel()
    room = room_in(10**6, model, torch.bfloat16)
    assert room.tokens == int(10**6 / (2 * (cached + block)))
    assert room.text_tokens == round(261 * (2 + 4 * 4) / (2 * (cached + block)))
    assert not room.by_longest_of_all
    on_cpu = text_room(model, torch.device("cpu"), torch.float32, 4096)
    assert on_cpu == TextRoom(4096, by_longest_of_all=True)
