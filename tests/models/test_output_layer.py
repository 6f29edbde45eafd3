"""The output layer in chunks: the plain formula's loss and gradients, in a chunk's memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from peftbench.measure.memory import MemoryMeter
from peftbench.models import output_layer
from peftbench.models.output_layer import BYTES_A_LOGIT, WHOLE, OutputLayer, Places, output_layer_of

WORDS = 61
OF_LLAMA: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "initializer_range": 0.5,
}  # fmt: skip


class LowRank(nn.Module):
    """An adapted output layer, which drops some of its inputs."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.drop = base.requires_grad_(False), nn.Dropout(0.0)
        self.a = nn.Parameter(torch.randn(4, base.in_features) * 0.3)
        self.b = nn.Parameter(torch.randn(base.out_features, 4) * 0.3)

    def forward(self, hidden: Tensor) -> Tensor:
        base: Tensor = self.base(hidden)
        return base + functional.linear(functional.linear(self.drop(hidden), self.a), self.b)


def plain() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**OF_LLAMA))


def adapted() -> Any:
    model = plain()
    model.lm_head = LowRank(model.lm_head)
    return model


def tied() -> Any:
    """With dropout, too."""
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_embd=16, n_layer=1, n_head=2, n_positions=32, initializer_range=0.5, bos_token_id=1, eos_token_id=1
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def softcapped() -> Any:
    config = transformers.Gemma2Config(**OF_LLAMA, final_logit_softcapping=2.0)
    return transformers.Gemma2ForCausalLM(config)


def scaled() -> Any:
    return transformers.GraniteForCausalLM(transformers.GraniteConfig(**OF_LLAMA, logits_scaling=3.0))


def multiplied() -> Any:
    given = {name: value for name, value in OF_LLAMA.items() if name != "head_dim"}
    return transformers.CohereForCausalLM(transformers.CohereConfig(**given, logit_scale=0.3))


def t5() -> Any:
    """Tied, so that it scales its states."""
    config = transformers.T5Config(
        vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, initializer_factor=3.0, pad_token_id=0, eos_token_id=1
    )  # fmt: skip
    config.decoder_start_token_id, config.scale_decoder_outputs = 0, True
    return transformers.T5ForConditionalGeneration(config)


def biased() -> Any:
    config = transformers.BartConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32, pad_token_id=0, init_std=0.5,
    )  # fmt: skip
    model = transformers.BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    return model


MODELS = (plain, adapted, tied, softcapped, scaled, multiplied, t5, biased)


def batch(model: Any) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Inputs of two texts of 9 tokens, and of 11 of their places the index and the token that is asked for."""
    draw = torch.Generator().manual_seed(2)
    tokens = torch.randint(2, WORDS, (2, 9), generator=draw)
    inputs = {"input_ids": tokens} | (
        {"decoder_input_ids": tokens.flip(0)} if model.config.is_encoder_decoder else {}
    )
    return (
        inputs,
        torch.tensor([1, 2, 3, 4, 7, 8, 9, 11, 13, 16, 17]),
        torch.randint(2, WORDS, (11,), generator=draw),
    )


def exact(logits: Tensor, tokens: Tensor) -> Tensor:
    """Without float32 in between."""
    return functional.cross_entropy(logits, tokens, reduction="none")


def losses_and_gradients(
    model: Any, output: OutputLayer | None, token_losses: Callable[[Tensor, Tensor], Tensor], device: str = ""
) -> list[Tensor]:
    """The loss, and the gradient of all that trains; without an output layer by the plain formula."""
    inputs, index, tokens = batch(model)
    model.zero_grad()
    torch.manual_seed(0)  # of dropout
    with torch.autocast("cpu", torch.bfloat16, enabled=device == "bfloat16"):
        if output is None:
            loss = token_losses(model(**inputs).logits.flatten(0, 1)[index], tokens).mean()
        else:
            loss = output.places(model, inputs, index).mean_loss(tokens, token_losses)
        loss = loss * 0.25  # as a part of a batch
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_chunks_give_the_plain_loss_and_gradients(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = make().double().eval()
    output = output_layer_of(model)
    assert output == OutputLayer(WORDS)
    model.train()  # with dropout where it has some: the same draws, since a pass is the same
    monkeypatch.setattr(output_layer, "CHUNK_BYTES", 4 * BYTES_A_LOGIT * WORDS)  # of 11 places: 4, 4 and 3
    by_chunks = losses_and_gradients(model, output, exact)
    by_formula = losses_and_gradients(model, None, exact)
    assert len(by_chunks) == len(by_formula) > 3
    for one, other in zip(by_chunks, by_formula, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)  # of sums of some dozens in float64
    inputs, index, tokens = batch(model.eval())
    whole = model(**inputs).logits.flatten(0, 1)[index]
    found = output.places(model, inputs, index)
    torch.testing.assert_close(found.losses(tokens, exact), exact(whole, tokens), rtol=1e-9, atol=1e-12)
    assert torch.equal(model(**inputs).logits.flatten(0, 1)[index], whole)  # it is as it was


def test_in_half_precision_a_tied_weight_gets_both_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast remembers its cast of a trained weight from one chunk to the next."""
    torch.manual_seed(0)
    model = tied().eval()
    monkeypatch.setattr(output_layer, "CHUNK_BYTES", 4 * BYTES_A_LOGIT * WORDS)

    def in_float32(logits: Tensor, tokens: Tensor) -> Tensor:
        assert logits.dtype == torch.bfloat16
        return exact(logits.float(), tokens)

    by_chunks = losses_and_gradients(model, output_layer_of(model), in_float32, "bfloat16")
    by_formula = losses_and_gradients(model, None, in_float32, "bfloat16")
    for one, other in zip(by_chunks, by_formula, strict=True):  # a chunk's gradient is rounded to 8 bits
        assert float((one - other).norm()) <= 2**-7 * float(other.norm())


def test_leaves_that_share_a_gradient_get_it_once_a_chunk() -> None:
    """Autograd gives both sides of a sum the very same tensor."""
    torch.manual_seed(0)
    states, tokens = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.randint(9, (6,))
    weight, update = (torch.randn(9, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def logits_of(some: Tensor) -> Tensor:
        return some @ (weight + update).t()

    leaves = (states, weight, update)
    by_chunks = torch.autograd.grad(Places(states, logits_of, 2).mean_loss(tokens, exact), leaves)
    by_formula = torch.autograd.grad(exact(logits_of(states), tokens).mean(), leaves)
    for one, other in zip(by_chunks, by_formula, strict=True):
        torch.testing.assert_close(one, other)


def test_an_output_layer_that_is_not_known_is_computed_in_the_pass() -> None:
    class Louder(transformers.LlamaForCausalLM):
        def forward(self, *args: Any, **options: Any) -> Any:
            out = super().forward(*args, **options)
            out.logits = out.logits.relu()
            return out

    torch.manual_seed(0)
    model: Any = Louder(transformers.LlamaConfig(**OF_LLAMA))
    model.double().eval()
    assert output_layer_of(model) == WHOLE
    read = plain().eval()
    assert output_layer_of(read) != WHOLE
    read.register_forward_hook(lambda *given: None)  # which may read the logits
    assert output_layer_of(read) == WHOLE
    by_places, by_formula = (losses_and_gradients(model, output, exact) for output in (WHOLE, None))
    for one, other in zip(by_places, by_formula, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    hooked = plain()
    hooked.lm_head.weight.register_hook(
        lambda gradient: 2 * gradient
    )  # once for each backward pass, not for each chunk
    assert output_layer_of(hooked) == WHOLE


def test_no_more_than_a_chunk_of_a_large_vocabulary_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words, places = 2**17, 256
    config = transformers.LlamaConfig(**{**OF_LLAMA, "vocab_size": words})
    model = transformers.LlamaForCausalLM(config).requires_grad_(False)
    model.model.layers.requires_grad_(True)
    # 128 places, half of them. A tensor of it is of a size that the C allocator gives back when it is freed.
    monkeypatch.setattr(output_layer, "CHUNK_BYTES", chunk := 2**28)
    inputs = {"input_ids": torch.arange(places)[None]}
    index, tokens = torch.arange(places), torch.arange(places)
    meter = MemoryMeter(torch.device("cpu"))
    peaks = {}
    for loss in (True, False, True):  # what a first pass brings is there then
        model.zero_grad()
        gc.collect()
        meter.mark_model(model)
        with meter.phase():
            found = OutputLayer(words).places(model, inputs, index)
            (found.mean_loss(tokens, exact) if loss else found.states.sum()).backward()
        assert meter.last is not None
        peaks[loss] = meter.last.peak_above_model_bytes or 0
    assert 0.4 * chunk < peaks[True] - peaks[False] < 1.2 * chunk


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_not_waited_for() -> None:
    layer = nn.Linear(16, WORDS, device="cuda")
    states = torch.randn(11, 16, device="cuda", requires_grad=True)
    places, tokens = Places(states, layer, 4), torch.arange(11, device="cuda")
    places.mean_loss(tokens, exact).backward()  # libraries wait when they begin
    torch.cuda.set_sync_debug_mode("error")
    try:
        places.mean_loss(tokens, exact).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
