"""Models as they are loaded: float32, padded as they were trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from peftbench import Classification
from peftbench.execution import batches
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer


def test_weights_in_bfloat16_on_disk_become_float32(tmp_path: Path, checkpoint: Callable[[str], str]) -> None:
    folder = tmp_path / "half"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("gpt2"), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    loaded = load_model(resolve_model(str(folder)), None, 0)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    tied: Any = loaded.model
    assert tied.get_input_embeddings().weight is tied.get_output_embeddings().weight


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_a_padding_token_classifies_a_padded_row_as_it_does_alone(
    family: str, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(family))
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    objective = Classification(("a", "b"))
    loaded = load_model(resolve_model(str(tmp_path)), objective, 0)
    assert loaded.tokenizer.pad_token == "[SEP]" and loaded.tokenizer.padding_side == "right"
    encoded = objective.encode(loaded.tokenizer, {"text": ["short", "a longer text"], "label": [0, 1]}, 32)
    lists = encoded["input_ids"]
    ragged = batches.Ragged(np.concatenate(lists), np.cumsum([0, *map(len, lists)]))
    split = batches.Encoded({"input_ids": ragged}, {"labels": np.array([0, 1])})
    both, alone = (
        batches.collate(split, np.array(items), batches.padding(loaded.tokenizer), torch.device("cpu"))
        for items in ([0, 1], [0])
    )
    with torch.no_grad():
        padded, plain = (loaded.model(**batches.inputs_of(batch)).logits[0] for batch in (both, alone))
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=1e-5)


def test_the_ends_of_items_keep_what_a_head_reads() -> None:
    ragged = batches.Ragged(np.array([5, 6, 7, 8, 9, 10]), np.array([0, 2, 3, 6]))
    split = batches.Encoded({"input_ids": ragged, "labels": ragged}, {"number": np.array([1, 2, 3])})
    ends = split.ends(2)
    for rows in ends.lists.values():
        assert [list(rows.values[a:b]) for a, b in zip(rows.offsets, rows.offsets[1:])] == [[5, 6], [7], [9, 10]]  # fmt: skip  # noqa: B905
    assert list(ends.numbers["number"]) == [1, 2, 3] and len(ends) == 3
