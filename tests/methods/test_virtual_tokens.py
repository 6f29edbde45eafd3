"""Methods with virtual tokens: the layout by hand, the PEFT library, a written-out loop over blocks, counts."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from peftbench import NotSupported, UsageError
from peftbench.models.precision import checkpoint_activations
from peftbench.plugins import registry
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import build, gpt2, inject, meta
from ..support.language_models import CAUSAL, far, language_model, vectors

Make = Callable[..., Run]
Of = Callable[[str], str]

METHODS = ("prompt", "prefix-embed", "prefix-layer", "lora-prefix-embed", "lora-prefix-layer")
FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "llama", "qwen2", "opt", "t5", "deberta", "mpnet")


def shared() -> Any:
    """The module that the methods share."""
    package = registry.get("method", "prompt").target.__module__.rpartition(".")[0]
    return sys.modules[f"{package}._virtual_tokens"]


# Prefix and infix tokens in the layouts below; numbers from 0 are tokens, `x` is padding.
P0, P1, I0 = -1, -2, -3
HAND: list[tuple[list[int], int, int, list[Any]]] = [
    # mask, tokens that stay first, tokens that stay last, the row in order
    ([1, 1, 1, 1], 0, 0, [P0, P1, 0, 1, 2, 3, I0]),
    ([1, 1, 0, 0], 0, 0, [P0, P1, 0, 1, I0, "x", "x"]),
    ([0, 1, 1, 1], 0, 0, ["x", P0, P1, 1, 2, 3, I0]),
    ([1, 1, 0, 0], 1, 0, [0, P0, P1, 1, I0, "x", "x"]),
    ([1, 0, 0, 0], 1, 0, [0, P0, P1, I0, "x", "x", "x"]),
    ([0, 0, 1, 1], 1, 0, ["x", "x", 2, P0, P1, 3, I0]),
    ([1, 1, 1, 1], 0, 1, [P0, P1, 0, 1, 2, I0, 3]),
    ([1, 1, 0, 0], 0, 1, [P0, P1, 0, I0, 1, "x", "x"]),
    ([1, 0, 0, 0], 0, 1, [P0, P1, I0, 0, "x", "x", "x"]),
    ([0, 1, 1, 1], 0, 1, ["x", P0, P1, 1, 2, I0, 3]),
]


@pytest.mark.parametrize(
    ("after", "before", "at_infix"), [(0, 0, False), (0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_layouts_written_out_by_hand(after: int, before: int, at_infix: bool) -> None:
    rows = [(mask, row) for mask, first, last, row in HAND if (first, last) == (after, before)]
    masks = torch.tensor([mask for mask, _ in rows])
    layout = shared().lay_out(masks.shape, masks, masks.device, 2, 1, after, before, at_infix)
    for number, (mask, row) in enumerate(rows):
        assert layout.mask[number].tolist() == [int(what != "x") for what in row]
        last = max(what for what in row if isinstance(what, int))
        for place, what in enumerate(row):
            slot, source = int(layout.slot[number, place]), int(layout.source[number, place])
            if not isinstance(what, int):
                assert slot == -1 and mask[source] == 0
            elif what >= 0:
                assert (slot, source) == (-1, what)
                where = row.index(I0) if at_infix and what == last else place
                assert int(layout.read[number, what]) == where
            else:
                assert slot == -1 - what


def test_without_a_mask_every_token_is_real() -> None:
    ones = torch.ones(2, 5, dtype=torch.long)
    for before, at_infix in ((0, False), (0, True), (1, False)):
        one = shared().lay_out((2, 5), ones, ones.device, 2, 3, 1, before, at_infix)
        other = shared().lay_out((2, 5), None, ones.device, 2, 3, 1, before, at_infix)
        assert other.mask is None and bool((one.mask == 1).all())
        for name in ("slot", "source", "read"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_prompt_equals_the_peft_library(family: str, checkpoint: Of) -> None:
    peft = pytest.importorskip("peft")
    ours, base = (language_model(checkpoint(family)) for _ in range(2))
    adaptation = inject("prompt:length=3", ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        theirs = peft.get_peft_model(base, config).eval()
    embeddings = theirs.prompt_encoder["default"].embedding.weight
    embeddings.data.copy_(vectors(ours)[0])
    batch = inputs()
    real = batch["attention_mask"].bool()
    mine, yours = ours(**batch).logits, theirs(**batch).logits[:, 3:]
    # The same sums in the same order; padding is a place that nobody reads.
    torch.testing.assert_close(mine[real], yours[real], rtol=1e-5, atol=1e-5)
    mine[real].square().sum().backward()
    yours[real].square().sum().backward()
    (trained,) = adaptation.params.values()
    torch.testing.assert_close(trained.grad, embeddings.grad, rtol=1e-4, atol=1e-4)


def test_prompt_starts_at_embeddings_of_the_vocabulary(checkpoint: Of) -> None:
    model = language_model(checkpoint("gpt2"))
    inject("prompt:length=5", model)
    table = model.transformer.wte.weight
    rows = [int((table == vector).all(1).nonzero()[0, 0]) for vector in vectors(model)[0]]
    assert len(set(rows)) > 1


@pytest.mark.parametrize("padded", [False, True])
def test_prefix_layer_equals_a_loop_over_blocks(padded: bool, checkpoint: Of) -> None:
    """h^0 = [cls; P^0; tokens; I^0; padding], each block's input with its own P and I in these places."""
    model = transformers.BertModel.from_pretrained(checkpoint("bert")).eval()
    base = copy.deepcopy(model)
    far(inject("prefix-layer:prefix=2:infix=1", model))
    batch = inputs(padded)
    got = model(**batch)
    for row, count in enumerate(batch["attention_mask"].sum(1).tolist()):
        places = [1, 2, count + 2]
        words = base.embeddings.word_embeddings(batch["input_ids"][row, :count])
        first, *later = vectors(model)
        sequence = torch.cat([words[:1], first[:2], words[1:], first[2:]])
        hidden = base.embeddings(inputs_embeds=sequence[None])
        for number, block in enumerate(base.encoder.layer):
            if number:
                hidden = hidden.clone()
                hidden[0, places] = later[number - 1]
            hidden = block(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        tokens = [place for place in range(count + 3) if place not in places]
        # Two blocks of float32 sums over 32 and 64 numbers, with padding and without.
        torch.testing.assert_close(
            got.last_hidden_state[row, :count], hidden[0, tokens], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(got.pooler_output[row], base.pooler(hidden)[0], rtol=1e-4, atol=1e-5)
    assert len(later) == len(base.encoder.layer) - 1


def test_virtual_tokens_are_of_type_0(checkpoint: Of) -> None:
    """The types of a pair's second text stay with its tokens."""
    model = transformers.BertModel.from_pretrained(checkpoint("bert")).eval()
    base = copy.deepcopy(model)
    far(inject("prefix-embed:prefix=2:infix=1", model))
    ids = inputs(False)["input_ids"]
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 2)
    words, (virtual,) = base.embeddings.word_embeddings(ids), vectors(model)
    virtual = virtual.expand(2, -1, -1)
    sequence = torch.cat([words[:, :1], virtual[:, :2], words[:, 1:], virtual[:, 2:]], 1)
    laid_out = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 0]] * 2)
    want = base(inputs_embeds=sequence, token_type_ids=laid_out).last_hidden_state[:, [0, 3, 4, 5, 6, 7, 8]]
    got = model(input_ids=ids, token_type_ids=types).last_hidden_state
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_hidden_states_are_the_tokens_own(checkpoint: Of) -> None:
    model = language_model(checkpoint("llama"))
    inject("prefix-layer", model)
    batch = inputs()
    out = model(**batch, output_hidden_states=True)
    assert [h.shape for h in out.hidden_states] == [(2, 7, 32)] * 3
    assert out.logits.shape[:2] == (2, 7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["prompt", "prefix-layer"])
def test_a_padded_row_gives_what_it_gives_alone(
    method: str, family: str, make_run: Make, checkpoint: Of
) -> None:
    prepared = adapted(make_run(method, checkpoint(family)))
    far(prepared.adaptation)
    model: Any = prepared.adaptation.model
    batch = inputs(padded=True)
    together = logits(prepared, padded=True)
    count = int(batch["attention_mask"][1].sum())
    with torch.no_grad():
        alone = model(
            input_ids=batch["input_ids"][1:, :count], attention_mask=batch["attention_mask"][1:, :count]
        )
    torch.testing.assert_close(together[1:], alone.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_on_the_left_gives_the_same(family: str, checkpoint: Of) -> None:
    """With positions that count real tokens, as `generate` passes them."""
    model = language_model(checkpoint(family))
    far(inject("prefix-embed:prefix=2:infix=2", model))
    tokens = inputs(False)["input_ids"][:1]
    padded = torch.nn.functional.pad(tokens, (3, 0))
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (3, 0))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        want = model(input_ids=tokens).logits
        got = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(got[:, 3:], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_reaches_every_virtual_token(
    method: str, family: str, make_run: Make, checkpoint: Of
) -> None:
    """Each of them, the infix on a causal classifier too; and checkpointed activations change no gradient."""
    prepared = adapted(make_run(method, checkpoint(family)))
    adaptation, model = prepared.adaptation, prepared.adaptation.model
    far(adaptation)
    model.train()
    found = []
    for checkpointed in (False, family != "mpnet"):  # the library can't checkpoint that one
        if checkpointed:
            checkpoint_activations(model)
        torch.manual_seed(0)  # of dropout
        model(**inputs()).logits.square().sum().backward()
        virtual = {n: p.grad for n, p in adaptation.params.items() if n.startswith("virtual_tokens")}
        found.append({name: gradient.clone() for name, gradient in virtual.items() if gradient is not None})
        assert found[-1].keys() == virtual.keys()
        for name, gradient in found[-1].items():
            assert bool((gradient.abs().amax(1) > 0).all()), name
        model.zero_grad()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5)


def test_head_probes_the_encoder_of_t5(make_run: Make, checkpoint: Of) -> None:
    prepared = adapted(make_run("head", checkpoint("t5")))
    model: Any = prepared.adaptation.model
    assert type(model.backbone).__name__ == "T5Stack" and not model.backbone.is_decoder
    assert logits(prepared).shape == (2, 2)


def test_switched_off_nothing_is_left(make_run: Make, checkpoint: Of) -> None:
    base = logits(adapted(make_run("full", checkpoint("gpt2"))))
    prepared = adapted(make_run("lora-prefix-layer", checkpoint("gpt2")))
    far(prepared.adaptation)
    on = logits(prepared)
    for _ in range(2):
        with prepared.adaptation.without():
            assert torch.equal(logits(prepared), base)
        assert torch.equal(logits(prepared), on)
    prepared.adaptation.remove()
    assert torch.equal(logits(prepared), base)


@pytest.mark.parametrize(
    ("family", "longest"), [("bert", 128), ("roberta", 127), ("gpt2", 128), ("opt", 128)]
)
def test_more_places_than_positions_are_refused(
    family: str, longest: int, make_run: Make, checkpoint: Of
) -> None:
    """RoBERTa's first position comes after the padding token's number, 0 here."""
    model: Any = adapted(make_run("prompt:length=4", checkpoint(family))).adaptation.model
    tokens = torch.full((1, longest - 4), 7)
    model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    tokens = torch.full((1, longest - 3), 7)
    with pytest.raises(NotSupported, match=f"4 virtual ones are more than the {longest} positions"):
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))


def test_relative_positions_have_no_end(make_run: Make, checkpoint: Of) -> None:
    model: Any = adapted(make_run("prompt:length=4", checkpoint("llama"))).adaptation.model
    tokens = torch.full((1, 130), 7)
    assert model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.isfinite().all()


def test_an_infix_in_a_language_model_that_trains_is_refused(checkpoint: Of) -> None:
    model = language_model(checkpoint("gpt2"))
    inject("prefix-embed", model)
    model.train()
    with pytest.raises(NotSupported, match="infix=0"):
        model(**inputs())


def test_pictures_are_refused() -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=32
    )
    with pytest.raises(NotSupported, match="no word embedding"):
        inject("prompt", meta(transformers.ViTForImageClassification, config))


@pytest.mark.parametrize(
    "text",
    [
        "prompt:length=0",
        "prefix-embed:prefix=0:infix=0",
        "prefix-layer:infix=-1",
        "prefix-embed:init_std=0",
        "lora-prefix-embed:rank=0",
        "lora-prefix-layer:prefix=0:infix=0",
    ],
)
def test_settings_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        build(text)


@pytest.fixture(scope="module")
def gpt3() -> Any:
    """Its shapes: 96 blocks of width 12,288."""
    return meta(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(n_embd=12288, n_layer=96, n_head=96, n_positions=2048),
    )


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("prefix-embed:prefix=32:infix=8", 491_520),
        ("prefix-layer:prefix=8:infix=8", 18_874_368),
        ("prefix-layer:prefix=2:infix=2", 4_718_592),
        ("lora-prefix-embed", 37_896_192),
        ("lora-prefix-layer", 51_904_512),
        ("prompt:length=100", 1_228_800),
    ],
)
def test_counts_at_the_papers_size(gpt3: Any, method: str, parameters: int) -> None:
    """d (l_p + l_i) and L d (l_p + l_i), with LoRA's r (in + out) a matrix: Hu et al., table 15."""
    adaptation = inject(method, gpt3)
    try:
        assert sum(p.numel() for p in adaptation.params.values()) == parameters
    finally:
        adaptation.remove()


def test_counts_of_gpt2_medium() -> None:
    """Lester et al.'s l d, and L d (l_p + l_i)."""
    for method, parameters in (("prompt:length=20", 20 * 1024), ("prefix-layer", 24 * 1024 * 16)):
        assert sum(p.numel() for p in inject(method, gpt2(False)).params.values()) == parameters
