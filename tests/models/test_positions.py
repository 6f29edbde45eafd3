"""A model takes as many tokens as its table of positions has places, and not one more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from peftbench.models.positions import made_for, positions_of

WIDE: dict[str, Any] = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 32}
CONFIGS = {
    "bert": transformers.BertConfig(**WIDE, intermediate_size=32, max_position_embeddings=20),
    "roberta": transformers.RobertaConfig(**WIDE, intermediate_size=32, max_position_embeddings=20),
    "gpt2": transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4, n_positions=20),
    "opt": transformers.OPTConfig(**WIDE, ffn_dim=32, word_embed_proj_dim=32, max_position_embeddings=20),
    "led": transformers.LEDConfig(vocab_size=50, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, attention_window=4, max_encoder_position_embeddings=20, max_decoder_position_embeddings=24),
    "gptj": transformers.GPTJConfig(vocab_size=50, n_embd=32, n_layer=1, n_head=4, n_positions=20, rotary_dim=4),
}  # fmt: skip


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_one_token_more_than_there_are_places_is_too_many(family: str) -> None:
    model: Any = transformers.AutoModel.from_config(CONFIGS[family]).eval()
    places = positions_of(model)
    assert places == (18 if family == "roberta" else 20) == made_for(model)
    model(input_ids=torch.full((1, places), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, places + 1), 7))


def test_relative_positions_do_not_end() -> None:
    config = transformers.LlamaConfig(**WIDE, intermediate_size=32, max_position_embeddings=20)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    assert positions_of(model) is None and made_for(model) == 20
