"""GGUF files: converted once, with the numbers that they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from peftbench import UsageError
from peftbench.models.load import load_model
from peftbench.models.resolve import kind_of, resolve_model
from peftbench.models.starters import byte_tokenizer

HEADS, KEY_HEADS, WIDTH = 4, 2, 32


def permuted(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key projection in GGUF's order: rotary pairs side by side."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(model: Any, file: Path) -> None:
    """A small Llama as llama.cpp has it, in float32."""
    tokenizer = byte_tokenizer()
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])] + [
        "ca",
        "de",
    ]
    writer.add_token_list(tokens)
    writer.add_token_merges(["c a", "d e"])  # transformers 5.17 takes one alone for a text
    writer.add_token_types([1] * len(tokens))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_pad_token_id(0)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        stem = name.removesuffix(".weight")
        if stem in outside:
            writer.add_tensor(f"{outside[stem]}.weight", values)
            continue
        _, _, layer, inner = stem.split(".", 3)
        if names[inner] in ("attn_q", "attn_k"):
            values = permuted(values, HEADS if names[inner] == "attn_q" else KEY_HEADS)
        writer.add_tensor(f"blk.{layer}.{names[inner]}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(byte_tokenizer()) + 2, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS, intermediate_size=64, max_position_embeddings=128, rms_norm_eps=1e-5,
        initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(model, file)
    return model, file


def test_a_gguf_file_is_a_model(packed: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    original, file = packed
    source = resolve_model(str(file))
    assert kind_of(source) == "causal" and (Path(source.location) / "model.safetensors").is_file()
    loaded = load_model(source, None, 0)
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        expected = original(input_ids=ids).logits
        found = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    said = loaded.tokenizer("cat", add_special_tokens=False)["input_ids"]
    assert said == [len(byte_tokenizer()), byte_tokenizer().convert_tokens_to_ids("t")]
    monkeypatch.setattr("peftbench.models.gguf.convert", lambda *_: pytest.fail("it is converted once"))
    assert resolve_model(str(file)) == source


def test_what_is_no_gguf_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(UsageError, match="is no GGUF language model that transformers reads"):
        resolve_model(str(tmp_path / "bad.gguf"))
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(UsageError, match="is no GGUF language model"):
        resolve_model(str(tmp_path / "cut.gguf"))
    with pytest.raises(UsageError, match="is not there; give a folder saved by save_pretrained, a GGUF file"):
        resolve_model(str(tmp_path / "none.gguf"))
