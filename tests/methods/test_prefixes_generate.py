"""Prefixes and virtual tokens where a model generates, and in T5: with a cache and without, padded and alone."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from peftbench.measure.generation import Greedy
from peftbench.models.roles import sites
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import inject, meta
from ..support.language_models import CAUSAL, far, language_model, vectors

Make = Callable[..., Run]
Of = Callable[[str], str]


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("method", ["prompt:length=3", "prefix:length=3", "prefix-embed:prefix=2:infix=0"])
def test_greedy_with_a_cache_equals_recomputing(method: str, family: str, checkpoint: Of) -> None:
    model = language_model(checkpoint(family))
    far(inject(method, model))
    prompt = inputs(False)["input_ids"]
    greedy = Greedy(model, prompt, 5)
    greedy.read()
    greedy.decode()
    tokens = prompt
    for made in greedy.tokens:
        with torch.no_grad():
            again = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
        assert torch.equal(again[:, -1:].argmax(-1), made)
        tokens = torch.cat([tokens, made], 1)
    assert torch.equal(model.generate(prompt, max_new_tokens=5, do_sample=False, eos_token_id=None), tokens)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_completion_follows_the_infix(family: str, checkpoint: Of) -> None:
    """[prefix; prompt; infix; completion], which no text without a cache stands for, written out in embeddings."""
    model = language_model(checkpoint(family))
    base = copy.deepcopy(model)
    far(inject("prefix-embed:prefix=2:infix=3", model))
    (virtual,) = vectors(model)
    prompt = inputs(False)["input_ids"]
    table = base.get_input_embeddings()
    sequence = torch.cat([virtual[:2].expand(2, -1, -1), table(prompt), virtual[2:].expand(2, -1, -1)], 1)
    greedy = Greedy(model, prompt, 5)
    greedy.read()
    greedy.decode()
    for made in greedy.tokens:
        with torch.no_grad():
            want = base(inputs_embeds=sequence).logits[:, -1:].argmax(-1)
        assert torch.equal(made, want)
        sequence = torch.cat([sequence, table(made)], 1)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("method", ["prompt:length=3", "prefix-layer:prefix=2:infix=1", "prefix:length=3"])
def test_generate_of_prompts_padded_on_the_left(method: str, family: str, checkpoint: Of) -> None:
    model = language_model(checkpoint(family))
    far(inject(method, model))
    prompt = inputs(False)["input_ids"][:1]
    generate = functools.partial(model.generate, max_new_tokens=4, do_sample=False, eos_token_id=None)
    alone = generate(prompt)
    padded = torch.nn.functional.pad(prompt, (2, 0))
    mask = torch.nn.functional.pad(torch.ones_like(prompt), (2, 0))
    assert torch.equal(generate(padded, attention_mask=mask)[:, 2:], alone)


@pytest.mark.parametrize("method", ["prompt:length=3", "prefix-layer:prefix=2:infix=1", "prefix:length=3"])
def test_t5_generates_as_it_computes(method: str, checkpoint: Of) -> None:
    """With the encoder run apart from the decoder, as `generate` does, and with padding that no one sees."""
    model: Any = transformers.T5ForConditionalGeneration.from_pretrained(checkpoint("t5")).eval()
    far(inject(method, model))
    batch = inputs()
    generate = functools.partial(model.generate, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    made = generate(**batch)
    for step in range(1, 5):
        with torch.no_grad():
            out = model(**batch, decoder_input_ids=made[:, :step], use_cache=False).logits[:, -1]
        out[:, model.config.eos_token_id] = -torch.inf  # which min_new_tokens forbids
        assert torch.equal(out.argmax(-1), made[:, step])
    alone = generate(batch["input_ids"][1:, :5])
    assert torch.equal(alone, made[1:])


def test_prompt_in_t5_stands_before_the_encoders_tokens(checkpoint: Of) -> None:
    model: Any = transformers.T5ForConditionalGeneration.from_pretrained(checkpoint("t5")).eval()
    base = copy.deepcopy(model)
    far(inject("prompt:length=3", model))
    batch = inputs()
    start = torch.tensor([[0, 7, 8], [0, 9, 10]])
    words = torch.cat([vectors(model)[0].expand(2, -1, -1), base.shared(batch["input_ids"])], 1)
    mask = torch.nn.functional.pad(batch["attention_mask"], (3, 0), value=1)
    with torch.no_grad():
        got = model(**batch, decoder_input_ids=start).logits
        want = base(inputs_embeds=words, attention_mask=mask, decoder_input_ids=start).logits
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_prefix_in_t5_counts_heads_of_their_own_width() -> None:
    config = transformers.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=4)
    adaptation = inject("prefix:length=3", meta(transformers.T5ForConditionalGeneration, config))
    assert adaptation.state()["prefix.keys_values"].shape == (
        4,
        2,
        1,
        4,
        3,
        16,
    )  # two encoder blocks, two decoder blocks


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_prefix_in_t5_equals_attention_over_longer_keys(side: str, make_run: Make, checkpoint: Of) -> None:
    """softmax(Q [P_k; K]' + [0; bias]) [P_v; V], written out with the position bias, padding and the causal triangle."""
    prepared = adapted(make_run("prefix:length=3", checkpoint("t5")))
    far(prepared.adaptation)
    model: Any = prepared.adaptation.model
    layer = getattr(model.base_model, side).block[0].layer[0].SelfAttention
    seen: list[Any] = []
    layer.register_forward_hook(lambda module, args, out: seen.append((args[0], out[0])))
    logits(prepared, padded=True)
    ((hidden, got),) = seen
    place = [id(s.module) for s in sites(model, "attention")].index(id(layer))
    with torch.no_grad():
        keys, values = model.prefix.compute()[place].expand(-1, 2, -1, -1, -1)
        q, k, v = (part(hidden).view(2, 7, 4, 8).transpose(1, 2) for part in (layer.q, layer.k, layer.v))
        bias = torch.nn.functional.pad(layer.compute_bias(7, 7), (3, 0))
        scores = q @ torch.cat([keys, k], 2).transpose(-1, -2) + bias
        if side == "encoder":
            visible = inputs()["attention_mask"].bool()[:, None, None, :].expand(-1, 1, 7, -1)
        else:
            visible = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7)
        visible = torch.nn.functional.pad(visible, (3, 0), value=True)
        mixed = scores.masked_fill(~visible, -torch.inf).softmax(-1) @ torch.cat([values, v], 2)
        want = layer.o(mixed.transpose(1, 2).reshape(2, 7, -1))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["t5", "qwen2"])
def test_prefix_serves_padded_batches(family: str, make_run: Make, checkpoint: Of) -> None:
    prepared = adapted(make_run("prefix:length=3", checkpoint(family)))
    far(prepared.adaptation)
    model: Any = prepared.adaptation.model
    batch = inputs()
    out = model(**batch).logits
    alone = model(input_ids=batch["input_ids"][1:, :5], attention_mask=batch["attention_mask"][1:, :5]).logits
    torch.testing.assert_close(alone, out[1:], rtol=1e-4, atol=1e-5)
    out.square().sum().backward()
    gradients = [p.grad for p in prepared.adaptation.params.values()]
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in gradients)
