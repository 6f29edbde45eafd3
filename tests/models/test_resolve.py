"""Where models come from and whether they fit: GGUF files, and the memory that arithmetic can tell of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from peftbench import Classification, UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.execution import batches, prepare
from peftbench.measure import environment
from peftbench.models.load import load_model
from peftbench.models.resolve import kind_of, resolve_model
from peftbench.models.starters import byte_tokenizer
from peftbench.planning import feasibility
from peftbench.planning.plan import plan
from peftbench.records.runs import Run

Make = Callable[..., Run]
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
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])] + ["ca"]
    writer.add_token_list(tokens)
    writer.add_token_merges(["c a"])
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
        vocab_size=len(byte_tokenizer()) + 1, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS,
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


def test_the_floor_is_weights_gradients_and_moments(make_run: Make) -> None:
    for method, share in (("full", 1.0), ("lora", None), ("head", 0.0)):
        run = make_run(method)
        prepared = prepare.prepare(run, prepare.objective_of(run), "meta")
        floor = feasibility.floor(prepared, trains=share != 0)
        base = sum(p.numel() for p in prepared.base)
        own = sum(p.numel() for p in prepared.adaptation.params.values())
        head = sum(p.numel() for p in prepared.head.values())
        trained = 0 if share == 0 else own + head
        extra = own if method == "lora" else 0
        # Buffers (positions, say) come on top of the weights: whole numbers, a few hundred.
        assert 4 * (base + extra) <= floor.weights_bytes <= 4 * (base + extra) + 10_000
        assert (floor.gradients_bytes, floor.optimizer_bytes) == (4 * trained, 8 * trained)


def granting(memory_bytes: int) -> Capacity:
    return Capacity((Device("cpu", 1, memory_bytes, bfloat16=False),), cores=1)


def test_what_can_not_fit_is_a_row_before_anything_runs() -> None:
    """The tiny encoder has 42,000 weights, 168 kB; trained whole it needs four times that."""
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), latency_grid=(), profile=False
    )
    refusals = {item.run.method: item.refusal for item in plan(asked, granting(400_000))}
    assert refusals["lora"] is None and refusals["head"] is None
    assert refusals["full"] is not None and refusals["full"].startswith(
        "it does not fit: 0.0 GB (weights 0.0, gradients"
    )
    with pytest.raises(UsageError, match="lora on tiny-encoder: it does not fit"):
        plan(asked, granting(100_000))


def test_a_limit_of_the_system_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(environment, "CGROUP", (limit, tmp_path / "none"))
    limit.write_text("max\n")
    whole = environment.granted_bytes()
    limit.write_text("123456789\n")
    assert environment.granted_bytes() == 123456789 < whole


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
