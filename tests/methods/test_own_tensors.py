"""Methods that train or rescale the model's own tensors: what trains, the PEFT library, and the counts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from peftbench import NotSupported, UsageError, weight_of
from peftbench.models.roles import sites
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import build, fill, gpt2, inject, meta, roberta

Make = Callable[..., Run]
Of = Callable[[str], str]

FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "llama", "opt")
METHODS = ("bitfit", "ft-top2", "ln", "ia3")


def size(params: Any) -> int:
    return sum(p.numel() for p in params.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_trains_without_adding_to_the_model(method: str, family: str, make_run: Make, checkpoint: Of) -> None:
    """Starts as the base, bitwise, and what trains reaches the outputs."""
    run = make_run(method, checkpoint(family))
    base = logits(adapted(make_run("full", checkpoint(family))))
    if (method, family) == ("bitfit", "llama"):
        with pytest.raises(NotSupported, match="this llama model has none"):
            adapted(run)
        return
    prepared = adapted(run)
    assert torch.equal(logits(prepared), base)
    for p in prepared.adaptation.params.values():
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    changed = logits(prepared)
    assert (changed - base).norm() > 1e-2 * base.norm()
    with prepared.adaptation.merged():
        assert (logits(prepared) - changed).norm() <= 1e-4 * (changed - base).norm()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "opt", "qwen2"])
def test_bitfit_trains_every_bias_of_the_backbone_and_nothing_else(
    family: str, make_run: Make, checkpoint: Of
) -> None:
    prepared = adapted(make_run("bitfit", checkpoint(family)))
    of_head = {id(p) for p in prepared.head.values()}
    biases = {
        name: p
        for name, p in prepared.adaptation.model.named_parameters()
        if name.endswith(".bias") and id(p) not in of_head
    }
    assert biases.keys() == prepared.adaptation.params.keys()
    assert all(p.ndim == 1 for p in biases.values())
    assert all(p.requires_grad == (name in biases or id(p) in of_head)
               for name, p in prepared.adaptation.model.named_parameters())  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_bitfit_does_not_take_the_heads_biases_for_the_models(
    family: str, make_run: Make, checkpoint: Of
) -> None:
    """T5's classification head has biases, its backbone has none."""
    with pytest.raises(NotSupported, match="trains biases"):
        adapted(make_run("bitfit", checkpoint(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_ft_top2_trains_the_last_blocks_whole(family: str, make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("ft-top2:blocks=1", checkpoint(family))).adaptation
    first, last = sites(adaptation.model, "block")
    assert list(adaptation.params) == [f"{last.name}.{name}" for name, _ in last.module.named_parameters()]
    assert not any(p.requires_grad for p in first.module.parameters())


def test_more_blocks_than_there_are_is_refused(make_run: Make, checkpoint: Of) -> None:
    with pytest.raises(NotSupported, match="this model has 2"):
        adapted(make_run("ft-top2:blocks=3", checkpoint("bert")))
    with pytest.raises(UsageError, match="blocks must be 1 or more"):
        build("ft-top2:blocks=0")


@pytest.mark.parametrize(
    ("model", "method", "parameters"),
    [
        (lambda: roberta(False).roberta, "bitfit", 102_144),
        (lambda: roberta(True).roberta, "bitfit", 271_360),
        (lambda: gpt2(False), "bitfit", 24 * 11 * 1024 + 1024),
        (lambda: gpt2(False), "ft-top2", 25_192_448),
        (lambda: gpt2(False), "ln", (4 * 24 + 2) * 1024),
        (lambda: roberta(False), "ln", (4 * 12 + 2) * 768),
        (lambda: gpt2(False), "ia3", 24 * 6 * 1024),
        (lambda: roberta(True), "ia3", 24 * 6 * 1024),
    ],
)
def test_counts_at_the_papers_sizes(model: Callable[[], Any], method: str, parameters: int) -> None:
    """d + 11 d L biases of RoBERTa, 2 (12 d^2 + 13 d) of GPT-2, 2 d a LayerNorm, L (d_k + d_v + d_ff)."""
    assert size(inject(method, model()).params) == parameters


def test_counts_follow_shared_heads_and_gainless_norms() -> None:
    config = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=96, vocab_size=50,
    )  # fmt: skip
    assert size(inject("ia3", meta(transformers.LlamaForCausalLM, config)).params) == 3 * (16 + 16 + 96)
    assert size(inject("ln", meta(transformers.LlamaForCausalLM, config)).params) == (2 * 3 + 1) * 64


@pytest.mark.parametrize("family", [*FAMILIES, "t5"])
def test_ia3_equals_its_formula_and_folds_into_it(family: str, make_run: Make, checkpoint: Of) -> None:
    """l * (W x + b) on keys and values, W (l * x) + b on the feed-forward's output; nothing on queries."""
    adaptation = adapted(make_run("ia3", checkpoint(family))).adaptation
    fill(adaptation)
    assert len(adaptation.swaps) == {"gpt2": 4, "t5": 12}.get(family, 6)
    for name, (base, wrapper) in adaptation.swaps.items():
        layer: Any = wrapper
        frozen: Any = base
        weight = weight_of(base).detach()
        bias = torch.zeros(len(weight))
        if frozen.bias is not None:  # zero in a model that was never trained
            bias = frozen.bias.data.normal_()
        x = torch.randn(3, 5, weight.shape[1])
        on_inputs = name.endswith(("output.dense", "lin2", "mlp.c_proj", "down_proj", "fc2", "wo"))
        gains: Tensor = layer.scale.detach()
        if name.endswith("c_attn"):
            assert len(gains) == 64
            gains = torch.cat([torch.ones(32), gains])
        want = (x * gains) @ weight.T + bias if on_inputs else (x @ weight.T + bias) * gains
        # Sums of 64 products in float32, in two orders.
        torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer.fold()(x), want, rtol=1e-4, atol=1e-4)


def test_ia3_sees_a_gain_that_half_precision_can_not_hold(make_run: Make, checkpoint: Of) -> None:
    """bfloat16 has nothing between 1 and 1.0078: a product in it would lose a gain of 1.003."""
    adaptation = adapted(make_run("ia3", checkpoint("bert"))).adaptation
    for base, wrapper in adaptation.swaps.values():
        layer: Any = wrapper
        base.to(torch.bfloat16)
        x = torch.randn(64, weight_of(base).shape[1]).bfloat16()
        before = layer(x)
        layer.scale.data.fill_(1.003)
        assert before.dtype == layer(x).dtype == torch.bfloat16
        assert not torch.equal(layer(x), before)


def twins(family: str, checkpoint: Of, config: Any) -> tuple[Any, Any]:
    """One model twice, in evaluation mode; the second has the PEFT library's method in it."""
    peft = pytest.importorskip("peft")
    kind = (
        transformers.AutoModelForCausalLM
        if family == "llama"
        else transformers.AutoModelForSequenceClassification
    )
    base: Any = kind.from_pretrained(checkpoint(family)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(copy.deepcopy(base), config(peft)).eval()
    return base, theirs


def same(ours: Any, theirs: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Outputs, and gradients of what trains, after copying our numbers into theirs."""
    for mine, yours in pairs:
        yours.data.copy_(mine.data.view(yours.shape))
        mine.requires_grad_(True)
    one, two = ours(**inputs()).logits, theirs(**inputs()).logits
    # Two orders of float32 sums, through two layers.
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    one.square().sum().backward()
    two.square().sum().backward()
    for mine, yours in pairs:
        assert mine.grad is not None and yours.grad is not None and mine.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad.view(yours.shape), yours.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_ia3_equals_the_peft_library(family: str, checkpoint: Of) -> None:
    """With modules named so that BERT's attention output stays out, which the library's defaults take in."""
    targets = {
        "bert": (r".*(key|value|\d\.output\.dense)", r".*\d\.output\.dense"),
        "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
    }[family]
    base, theirs = twins(
        family, checkpoint, lambda p: p.IA3Config(target_modules=targets[0], feedforward_modules=targets[1])
    )
    ours = inject("ia3", base)
    fill(ours)
    pairs = [
        (layer.scale, theirs.get_submodule(f"base_model.model.{name}").ia3_l["default"])
        for name, (_, layer) in ours.swaps.items()
    ]
    trained = [p for name, p in theirs.named_parameters() if "ia3_l" in name]
    assert len(trained) == len(pairs) == 6
    same(base, theirs, pairs)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_ln_equals_the_peft_library(family: str, checkpoint: Of) -> None:
    targets = ["LayerNorm"] if family == "bert" else None  # None: the library's own choice for Llama
    base, theirs = twins(family, checkpoint, lambda p: p.LNTuningConfig(target_modules=targets))
    ours = inject("ln", base)
    pairs = []
    for name, p in ours.params.items():
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        module, _, part = name.rpartition(".")
        other = theirs.get_submodule(f"base_model.model.{module}").ln_tuning_layers["default"]
        pairs.append((p, getattr(other, part)))
    trained = [p for name, p in theirs.named_parameters() if "ln_tuning_layers" in name]
    assert len(trained) == len(pairs) == (10 if family == "bert" else 5)
    same(base, theirs, pairs)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_ln_trains_every_norm_and_nothing_else(family: str, make_run: Make, checkpoint: Of) -> None:
    prepared = adapted(make_run("ln", checkpoint(family)))
    model = prepared.adaptation.model
    norms = {id(p) for m in model.modules() if type(m).__name__.endswith("Norm") for p in m.parameters()}
    assert {id(p) for p in prepared.adaptation.params.values()} == norms
    assert len(norms) == {"bert": 10, "gpt2": 10, "llama": 5}[family]
