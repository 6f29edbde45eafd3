"""LoRA against the written formula, against the PEFT library, and its parameter counts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from peftbench import NotSupported
from peftbench.models.roles import sites
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import fill, gpt2, inject, meta, roberta


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_forward_and_gradients_equal_the_formula(
    family: str, make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """h = W0 x + (alpha / r) B A x, and what autograd makes of it, for each slice of a fused projection alone."""
    adaptation = adapted(make_run("lora:rank=3:alpha=5:targets=query+value", checkpoint(family))).adaptation
    fill(adaptation)
    name, (base, wrapper) = next(iter(adaptation.swaps.items()))
    layer: Any = wrapper
    fused = family == "gpt2"
    plain: Any = base
    weight: Tensor = plain.weight.detach()
    weight = (weight.T if fused else weight).clone()
    x = torch.randn(4, 5, weight.shape[1], requires_grad=True)
    y = x.detach().clone().requires_grad_()

    got = layer(x)
    got.square().sum().backward()

    a, b = (p.detach().clone().requires_grad_() for p in (layer.a, layer.b))
    if fused:  # query and value are the first and the third slice; the key's stays as it is
        width = weight.shape[0] // 3
        updates = [b[:width] @ a[:3], torch.zeros(width, weight.shape[1]), b[width:] @ a[3:]]
        update = torch.cat(updates)
    else:
        update = b @ a
    bias = plain.bias if plain.bias is not None else 0.0
    want = y @ (weight + 5 / 3 * update).T + bias
    want.square().sum().backward()
    # Sums of 32 products in float32, in two orders.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    for ours, theirs in ((x.grad, y.grad), (layer.a.grad, a.grad), (layer.b.grad, b.grad)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert name


def test_equals_the_peft_library_with_the_same_weights(checkpoint: Callable[[str], str]) -> None:
    peft = pytest.importorskip("peft")
    base = transformers.BertForSequenceClassification.from_pretrained(checkpoint("bert"), num_labels=2).eval()
    theirs_base = copy.deepcopy(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], bias="none")
        theirs = peft.get_peft_model(theirs_base, config).eval()
    ours = inject("lora:rank=4:alpha=8", base)
    fill(ours)
    for name, (_, wrapper) in ours.swaps.items():
        layer: Any = wrapper
        other = theirs.get_submodule(f"base_model.model.{name}")
        other.lora_A["default"].weight.data.copy_(layer.a.data)
        other.lora_B["default"].weight.data.copy_(layer.b.data)
    mine, yours = base(**inputs()).logits, theirs(**inputs()).logits
    torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5)
    mine.square().sum().backward()
    yours.square().sum().backward()
    for name, (_, wrapper) in ours.swaps.items():
        layer = wrapper
        other = theirs.get_submodule(f"base_model.model.{name}")
        torch.testing.assert_close(layer.a.grad, other.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.b.grad, other.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-5)


def deberta_xxl() -> Any:
    config = transformers.DebertaV2Config(
        hidden_size=1536,
        num_hidden_layers=48,
        num_attention_heads=24,
        intermediate_size=6144,
        vocab_size=128100,
    )
    return meta(transformers.DebertaV2Model, config)


@pytest.mark.parametrize(
    ("model", "method", "parameters"),
    [
        (lambda: roberta(False), "lora:rank=8", 294_912),
        (lambda: roberta(True), "lora:rank=8", 786_432),
        (deberta_xxl, "lora:rank=16", 4_718_592),
        (lambda: gpt2(False), "lora:rank=4", 393_216),
        (lambda: gpt2(True), "lora:rank=4", 737_280),
        (lambda: roberta(True), "adapter:bottleneck=8", 835_968),
        (lambda: roberta(True), "adapter:bottleneck=64", 6_343_680),
        (lambda: gpt2(False), "adapter:bottleneck=112", 11_064_576),
    ],
)
def test_counts_at_the_papers_sizes(model: Callable[[], Any], method: str, parameters: int) -> None:
    """r (in + out) a matrix for LoRA, 2 (2 d r + r + d) a block for Houlsby's adapters: Hu et al., tables 2 and 3."""
    adaptation = inject(method, model())
    assert sum(p.numel() for p in adaptation.params.values()) == parameters


def test_stored_prefix_counts_as_li_and_liang_do() -> None:
    """2 L d l: 250K for l = 5 on GPT-2 medium; about a hundred times that is trained."""
    adaptation = inject("prefix:length=5", gpt2(False))
    stored = sum(t.numel() for t in adaptation.state().values())
    trained = sum(p.numel() for p in adaptation.params.values())
    assert stored == 2 * 24 * 1024 * 5 == 245_760
    assert trained == 5 * 1024 + (1024 * 512 + 512) + (512 * 2 * 24 * 1024 + 2 * 24 * 1024)


def test_dropout_acts_on_the_update_only(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    adaptation = adapted(make_run("lora:dropout=0.5", checkpoint("bert"))).adaptation
    base, wrapper = next(iter(adaptation.swaps.values()))
    x = torch.randn(3, 32)
    wrapper.train()
    assert torch.equal(wrapper(x), base(x))  # B is zero: whatever dropout does to the update, it is nothing
    fill(adaptation)
    assert not torch.equal(wrapper(x), wrapper(x))
    wrapper.eval()
    assert torch.equal(wrapper(x), wrapper(x))


def test_a_larger_rank_does_not_begin_with_the_smaller_ones_rows(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    small, large = (adapted(make_run(f"lora:rank={r}", checkpoint("bert"))).adaptation for r in (2, 4))
    a, b = (next(p for n, p in s.params.items() if n.endswith(".a")) for s in (small, large))
    assert not torch.equal(a, b[:2])


def test_no_two_layers_draw_the_same(make_run: Callable[..., Run], checkpoint: Callable[[str], str]) -> None:
    params = adapted(make_run("lora", checkpoint("bert"))).adaptation.params
    drawn = [p.detach().numpy().tobytes() for name, p in params.items() if name.endswith(".a")]
    assert len(set(drawn)) == len(drawn) == 4


def test_roles_that_match_nothing_are_refused(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    with pytest.raises(NotSupported, match="linear layers only"):
        adapted(make_run("lora:targets=norm", checkpoint("bert")))


def test_adapter_equals_its_formula(make_run: Callable[..., Run], checkpoint: Callable[[str], str]) -> None:
    prepared = adapted(make_run("adapter:bottleneck=3", checkpoint("bert")))
    fill(prepared.adaptation)
    base, wrapper = next(iter(prepared.adaptation.swaps.values()))
    layer: Any = wrapper.adapter
    x = torch.randn(2, 5, 32)
    u = base(x)
    hidden = u @ layer.down.T + layer.down_bias
    want = u + (hidden * torch.sigmoid(hidden)) @ layer.up.T + layer.up_bias
    torch.testing.assert_close(wrapper(x), want, rtol=1e-5, atol=1e-5)
    assert len(prepared.adaptation.swaps) == 4  # two a block


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_prefix_equals_attention_over_longer_keys(
    family: str, make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """Attention(Q, [P_k; K], [P_v; V]) written out, with every prefix position visible and padding hidden."""
    prepared = adapted(make_run("prefix:length=3", checkpoint(family)))
    adaptation = prepared.adaptation
    fill(adaptation)
    module: Any = sites(adaptation.model, "attention")[1].module
    seen: dict[str, Any] = {}
    model: Any = adaptation.model
    name = model.config._attn_implementation
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    real = ALL_ATTENTION_FUNCTIONS[name]

    def spy(layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        out = real(layer, query, key, value, mask, **options)
        if layer is module:
            seen.update(q=query, k=key, v=value, out=out[0], scale=options.get("scaling"))
        return out

    AttentionInterface.register(name, spy)
    try:
        logits(prepared, padded=True)
    finally:
        AttentionInterface.register(name, real)
    with torch.no_grad():
        prefix: Any = adaptation.model.prefix
        keys, values = prefix.compute()[1].expand(-1, 2, -1, -1, -1)
    repeat = seen["q"].shape[1] // seen["k"].shape[1]
    k = torch.cat([keys, seen["k"]], 2).repeat_interleave(repeat, 1)
    v = torch.cat([values, seen["v"]], 2).repeat_interleave(repeat, 1)
    visible = inputs()["attention_mask"].bool()[:, None, None, :].expand(-1, 1, 7, -1)
    if family != "bert":
        visible = visible & torch.ones(7, 7, dtype=torch.bool).tril()
    visible = torch.cat([torch.ones(2, 1, 7, 3, dtype=torch.bool), visible], -1)
    scores = (seen["q"] @ k.transpose(-1, -2)) * (seen["scale"] or seen["q"].shape[-1] ** -0.5)
    want = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ v
    torch.testing.assert_close(seen["out"], want.transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_prefix_equals_the_peft_library_with_its_positions(
    family: str, checkpoint: Callable[[str], str]
) -> None:
    """There the prefix is a cache, so the tokens' positions begin behind it."""
    peft = pytest.importorskip("peft")
    ours, base = (
        transformers.AutoModelForCausalLM.from_pretrained(checkpoint(family)).eval() for _ in range(2)
    )
    inject("prefix:length=3", ours)
    prefix: Any = ours.prefix
    prefix.settle()
    prefix.settled = torch.randn(prefix.settled.shape, generator=torch.Generator().manual_seed(0))
    prefix.settled.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        theirs = peft.get_peft_model(base, config).eval()
    flat = theirs.prompt_encoder["default"].embedding.weight

    def as_theirs(keys_values: Tensor) -> Tensor:
        """(layers, 2, 1, heads, length, head width) to (length, layers * 2 * heads * head width)."""
        return keys_values[:, :, 0].permute(3, 0, 1, 2, 4).reshape(flat.shape)

    flat.data.copy_(as_theirs(prefix.settled.detach()))
    batch = inputs()
    real = batch["attention_mask"].bool()
    positions = torch.arange(3, 3 + real.shape[1])[None].expand_as(real)
    mine = ours(**batch, position_ids=positions).logits
    yours = theirs(**batch).logits
    torch.testing.assert_close(mine[real], yours[real], rtol=1e-4, atol=1e-4)
    assert (ours(**batch).logits - mine)[real].norm() > 1e-3 * mine[real].norm()
    mine[real].square().sum().backward()
    yours[real].square().sum().backward()
    torch.testing.assert_close(as_theirs(prefix.settled.grad), flat.grad, rtol=1e-3, atol=1e-3)
