"""LoRA's relatives: each against its written formula, against the PEFT library, and its counts."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from peftbench import weight_of
from peftbench.execution.prepare import prepare
from peftbench.models.streams import init_streams
from peftbench.plugins import registry
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs
from ..support.injected import fill, gpt2, inject

Make = Callable[..., Run]
Of = Callable[[str], str]


def rows_of(layer: Any, family: str) -> list[slice]:
    """Query and value of GPT-2's fused projection, else all outputs."""
    out = weight_of(layer.base).shape[0]
    third = out // 3
    return [slice(0, third), slice(2 * third, out)] if family == "gpt2" else [slice(0, out)]


def dense(method: str, layer: Any, family: str) -> Tensor:
    """The weight that the method's paper writes down, built slice by slice in the plainest way."""
    w = weight_of(layer.base).detach().float().clone()
    start = 0
    for pair, rows in enumerate(rows_of(layer, family)):
        n = rows.stop - rows.start
        if method == "vera":
            d, b = layer.d[pair], layer.b[start : start + n]
            w[rows] += torch.diag(b) @ layer.shared.b[:n] @ torch.diag(d) @ layer.shared.a[:, : w.shape[1]]
        elif method == "adalora":
            r = layer.p.shape[1]
            q, lam = layer.q[pair * r : (pair + 1) * r], layer.l[pair * r : (pair + 1) * r]
            w[rows] += 24 / 12 * layer.p[start : start + n] @ torch.diag(lam) @ q
        else:
            r = layer.b.shape[1]
            update = layer.b[start : start + n] @ layer.a[pair * r : (pair + 1) * r]
            if method == "pissa":
                update = update - layer.b0[start : start + n] @ layer.a0[pair * r : (pair + 1) * r]
            scale = {"rslora": 5.66 / math.sqrt(8), "pissa": 1.0}.get(method, 2.0)
            w[rows] += scale * update
            if method == "dora":
                m = layer.magnitude[start : start + n]
                w[rows] *= (m / w[rows].norm(dim=1))[:, None]
        start += n
    return w


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("method", ["rslora", "lora-plus", "lora-fa", "dora", "pissa", "vera", "adalora"])
def test_forward_and_fold_equal_the_formula(method: str, family: str, make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run(method, checkpoint(family))).adaptation
    for p in adaptation.params.values():
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    _, wrapper = next(iter(adaptation.swaps.values()))
    layer: Any = wrapper
    with torch.no_grad():
        want = dense(method, layer, family)
        x = torch.randn(4, 5, want.shape[1])
        bias = layer.base.bias if layer.base.bias is not None else 0.0
        # Sums of 32 products in float32, in two orders.
        torch.testing.assert_close(layer(x), x @ want.T + bias, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(weight_of(layer.fold()), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_dora_gradients_are_those_of_a_constant_norm(family: str, make_run: Make, checkpoint: Of) -> None:
    """Section 4.3 of the paper: |W0 + s B A| does not take part in the backward pass."""
    adaptation = adapted(make_run("dora", checkpoint(family))).adaptation
    fill(adaptation)
    _, wrapper = next(iter(adaptation.swaps.values()))
    layer: Any = wrapper
    x = torch.randn(3, 32)
    layer(x).square().sum().backward()
    a, b, m = (p.detach().clone().requires_grad_() for p in (layer.a, layer.b, layer.magnitude))
    w = weight_of(layer.base).detach()
    out, start = [], 0
    pieces = {rows.start: rows for rows in rows_of(layer, family)}
    bias = layer.base.bias.detach()
    for pair, rows in enumerate(pieces.values()):
        n = rows.stop - rows.start
        v = w[rows] + 2.0 * b[start : start + n] @ a[pair * 8 : (pair + 1) * 8]
        out.append((x @ v.T) * (m[start : start + n] / v.norm(dim=1).detach()) + bias[rows])
        start += n
    sum(o.square().sum() for o in out).backward()
    for ours, theirs in ((layer.a, a), (layer.b, b), (layer.magnitude, m)):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)


PEFT_TWINS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    # method -> SPEC here, config there, and our tensor -> theirs
    "rslora": ("rslora:rank=4:alpha=8", {"use_rslora": True, "r": 4, "lora_alpha": 8},
               {"a": "lora_A.default.weight", "b": "lora_B.default.weight"}),
    "dora": ("dora:rank=4:alpha=8", {"use_dora": True, "r": 4, "lora_alpha": 8},
             {"a": "lora_A.default.weight", "b": "lora_B.default.weight",
              "magnitude": "lora_magnitude_vector.default.weight"}),
    "vera": ("vera:rank=16", {"r": 16, "d_initial": 0.1}, {"d": "vera_lambda_d.default", "b": "vera_lambda_b.default"}),
    "adalora": ("adalora:initial_rank=6:target_rank=4:alpha=12", {"init_r": 6, "target_r": 4, "lora_alpha": 12,
                                                                  "total_step": 10},
                {"p": "lora_B.default", "q": "lora_A.default", "l": "lora_E.default"}),
}  # fmt: skip


@pytest.mark.parametrize("method", PEFT_TWINS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_equals_the_peft_library_with_the_same_weights(method: str, family: str, checkpoint: Of) -> None:
    peft = pytest.importorskip("peft")
    kind = "AutoModelForSequenceClassification" if family == "bert" else "AutoModelForCausalLM"
    base = getattr(transformers, kind).from_pretrained(checkpoint(family)).eval()
    theirs_base = copy.deepcopy(base)
    text, options, pairs = PEFT_TWINS[method]
    targets = ["query", "value"] if family == "bert" else ["q_proj", "v_proj"]
    config_class = {"vera": peft.VeraConfig, "adalora": peft.AdaLoraConfig}.get(method, peft.LoraConfig)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(theirs_base, config_class(target_modules=targets, **options)).eval()
    ours = inject(text, base)
    fill(ours)
    couples = []
    for name, (_, wrapper) in ours.swaps.items():
        layer: Any = wrapper
        other = theirs.get_submodule(f"base_model.model.{name}")
        for mine, yours in pairs.items():
            one = getattr(layer, mine)
            two = dict(other.named_parameters())[yours]
            two.data.copy_(one.data.view(two.shape))
            couples.append((one, two))
        if method == "vera":
            layer.shared.a.copy_(other.vera_A["default"])
            layer.shared.b.copy_(other.vera_B["default"])
    mine, yours = base(**inputs()).logits, theirs(**inputs()).logits
    torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4)
    for p in base.parameters():
        p.requires_grad_(any(p is one for one, _ in couples))
    mine.square().sum().backward()
    yours.square().sum().backward()
    for one, two in couples:
        torch.testing.assert_close(one.grad.view(two.shape), two.grad, rtol=1e-3, atol=1e-3)


def test_pissa_starts_where_the_peft_library_does(checkpoint: Of) -> None:
    peft = pytest.importorskip("peft")
    base = transformers.BertForSequenceClassification.from_pretrained(checkpoint("bert"), num_labels=2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights="pissa"
        )
        theirs = peft.get_peft_model(copy.deepcopy(base), config).eval()
    ours = inject("pissa:rank=4:alpha=8", base)
    for name, (_, wrapper) in ours.swaps.items():
        layer: Any = wrapper
        other = theirs.get_submodule(f"base_model.model.{name}")
        # A pair of singular vectors is defined up to a common sign.
        torch.testing.assert_close(
            layer.b @ layer.a,
            other.lora_B["default"].weight @ other.lora_A["default"].weight,
            rtol=1e-4,
            atol=1e-4,
        )
    torch.testing.assert_close(base(**inputs()).logits, theirs(**inputs()).logits, rtol=1e-4, atol=1e-4)


def test_lora_plus_has_the_rates_of_the_peft_library(make_run: Make, checkpoint: Of) -> None:
    from peftbench.execution.train import parameter_groups

    run = make_run("lora-plus:ratio=16", checkpoint("bert"), learning_rate=1e-3)
    prepared = adapted(run)
    groups = {group["lr"]: len(group["params"]) for group in parameter_groups(prepared.adaptation, {}, run)}
    assert groups == {1e-3: 4, 16e-3: 4}  # A and B of query and value in two layers


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_lora_equals_loralib(merged: bool, fused: bool) -> None:
    """The authors' own layers, with the same numbers; merging happens when theirs go into evaluation mode."""
    loralib = pytest.importorskip("loralib")
    from peftbench.methods.lora import LoRA, LoRALinear  # noqa: TID251  the layer itself is under test
    from transformers.pytorch_utils import Conv1D

    from peftbench import Site

    torch.manual_seed(0)
    base: Any = Conv1D(96, 32) if fused else nn.Linear(32, 32)
    sites = [
        Site(role, "c_attn", base, 0, rows if fused else None)
        for role, rows in (("query", (0, 32)), ("value", (64, 96)))
    ][: 2 if fused else 1]
    ours: Any = LoRALinear(base, sites, LoRA(rank=4, alpha=8))
    ours.a.data.normal_(0, 0.1)
    ours.b.data.normal_(0, 0.1)
    if fused:
        theirs = loralib.MergedLinear(
            32,
            96,
            r=4,
            lora_alpha=8,
            enable_lora=[True, False, True],
            fan_in_fan_out=True,
            merge_weights=merged,
        )
    else:
        theirs = loralib.Linear(32, 32, r=4, lora_alpha=8, merge_weights=merged)
    theirs.weight.data, theirs.bias.data = base.weight.data.clone(), base.bias.data.clone()
    theirs.lora_A.data.copy_(ours.a.data)
    theirs.lora_B.data.copy_(ours.b.data)
    x = torch.randn(2, 5, 32)
    theirs.train()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    theirs.eval()  # merges, where asked to
    mine = ours.fold() if merged else ours
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)
    if merged:
        torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "trained", "stored"),
    [
        ("rslora:rank=4", 393_216, 393_216),
        ("lora-fa:rank=4", 48 * 1024 * 4, 393_216),
        ("dora:rank=4", 393_216 + 48 * 1024, 393_216 + 48 * 1024),
        ("pissa:rank=4", 393_216, 2 * 393_216),
        ("vera:rank=256", 48 * (1024 + 256), 48 * (1024 + 256) + 2 * 256 * 1024),
        ("adalora:initial_rank=12", 48 * 12 * 2049, 48 * 12 * 2049),
    ],
)
def test_counts_on_gpt2_medium(method: str, trained: int, stored: int) -> None:
    """r (in + out) a matrix, and what each adds; VeRA's shared pair is as large as a slice of the fused layer and stored once."""
    adaptation = inject(method, gpt2(False))
    assert sum(p.numel() for p in adaptation.params.values()) == trained
    assert sum({id(t): t.numel() for t in adaptation.state().values()}.values()) == stored


def test_vera_shares_one_pair(make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("vera:rank=8", checkpoint("bert"))).adaptation
    layers: list[Any] = [wrapper for _, wrapper in adaptation.swaps.values()]
    assert len({layer.shared.a.data_ptr() for layer in layers}) == 1
    assert len(adaptation.frozen) == 2
    adaptation.model.to(torch.float64)
    assert len({layer.shared.a.data_ptr() for layer in layers}) == 1


def test_vera_draws_no_more_than_a_slice_of_a_fused_projection(make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("vera:rank=8", checkpoint("gpt2"))).adaptation
    assert sorted(tuple(t.shape) for t in adaptation.frozen.values()) == [(8, 32), (32, 8)]


@pytest.mark.parametrize("method", ["lora-fa", "vera:rank=8", "pissa", "peft:type=VERA:r=8"])
def test_what_is_frozen_is_still_the_models_after_a_move(method: str, make_run: Make, checkpoint: Of) -> None:
    """Moving replaces tensors, as changing their type does here: a load must reach those that are used."""
    adaptation = adapted(make_run(method, checkpoint("bert"))).adaptation
    adaptation.model.to(torch.float64)
    adaptation.to("cpu")
    used = {t.data_ptr() for t in (*adaptation.model.parameters(), *adaptation.model.buffers())}
    assert adaptation.frozen
    assert all(t.data_ptr() in used and t.dtype == torch.float64 for t in adaptation.frozen.values())


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["qlora", "qlora:bits=8", "lora-fa", "vera:rank=8"])
def test_the_base_can_be_had_back_on_a_gpu(method: str, make_run: Make, checkpoint: Of) -> None:
    prepared = prepare(make_run(method, checkpoint("bert"), device="cuda"), None, "cuda")
    batch = {name: tensor.cuda() for name, tensor in inputs().items()}
    with torch.no_grad(), prepared.adaptation.without() as base:
        want: Any = base(**batch).logits
    assert want.is_cuda and prepared.adaptation.model(**batch).logits.is_cuda


def test_dropout_of_pissa_spares_what_is_frozen(make_run: Make, checkpoint: Of) -> None:
    """(W0 - s B0 A0) x + s B A drop(x): with B zero the outputs do not depend on the draw."""
    adaptation = adapted(make_run("pissa:dropout=0.5", checkpoint("bert"))).adaptation
    layer: Any = next(iter(adaptation.swaps.values()))[1]
    layer.train()
    layer.b.data.zero_()
    x = torch.randn(4, 32)
    assert torch.equal(layer(x), layer(x))
    torch.testing.assert_close(layer(x), layer.eval()(x), rtol=1e-5, atol=1e-5)


def test_doras_norms_are_float32_under_autocast(make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("dora", checkpoint("bert"))).adaptation
    fill(adaptation)
    layer: Any = next(iter(adaptation.swaps.values()))[1]
    want = layer._squared_norms()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer._squared_norms(), want)


def test_lora_fa_keeps_no_input_of_a(make_run: Make, checkpoint: Of) -> None:
    """What backward needs of an adapted layer: r numbers a token, not `in`."""

    def saved(method: str) -> int:
        adaptation = adapted(make_run(method, checkpoint("bert"))).adaptation
        layer = next(iter(adaptation.swaps.values()))[1]
        kept: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            if not isinstance(t, nn.Parameter):
                kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        x = torch.randn(64, 32)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            layer(x).sum()
        return sum(kept.values())

    assert saved("lora:rank=2") - saved("lora-fa:rank=2") >= 64 * 32 * 4


@pytest.mark.parametrize(("bits", "bytes_a_weight"), [(4, 0.5 + 4 / 64), (8, 1 + 4 / 32)])
def test_quantised_layer_errs_within_its_steps_and_keeps_no_dense_weight(
    bits: int, bytes_a_weight: float
) -> None:
    """Each weight lies within half the widest step of its scale; backward is that of the dense layer it stands for."""
    from peftbench.methods._quantised import NORMAL_FLOAT, quantise  # noqa: TID251  the layer itself is under test

    torch.manual_seed(0)
    base = nn.Linear(32, 48)
    layer: Any = quantise(base, bits, "torch")
    weight, dense_weight = base.weight.detach(), layer.dense()
    if bits == 8:
        limit = weight.abs().amax(1, keepdim=True).expand_as(weight) / 127 / 2
    else:
        gaps = torch.tensor(NORMAL_FLOAT).diff().max() / 2
        blocks = weight.reshape(-1, 64).abs().amax(1, keepdim=True)
        limit = (blocks * gaps).expand(-1, 64).reshape(weight.shape)
    assert ((dense_weight - weight).abs() <= limit * 1.0001).all()
    held = sum(t.nbytes for name, t in layer.named_buffers() if name in ("codes", "scales"))
    assert held == bytes_a_weight * weight.numel()
    x = torch.randn(5, 32, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    shapes = []

    def pack(t: Tensor) -> Tensor:
        shapes.append(t.shape)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = layer(x)
    assert weight.shape not in shapes
    out.square().sum().backward()
    want = nn.functional.linear(y, dense_weight, base.bias)
    want.square().sum().backward()
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(x.grad, y.grad)


def test_qlora_is_not_merged_and_counts_the_base_it_stands_for(make_run: Make, checkpoint: Of) -> None:
    from peftbench.measure.parameters import count_parameters

    counts = []
    for method in ("lora:rank=2", "qlora:rank=2:targets=query+value"):
        prepared = adapted(make_run(method, checkpoint("bert")))
        counts.append(count_parameters(prepared.adaptation, prepared.head, prepared.base))
    assert counts[0] == counts[1]
    assert not prepared.adaptation.mergeable


def test_registered_presets_say_where_they_come_from() -> None:
    for name, entry in registry.load("method").items():
        assert entry.declared.preset.source, name
    with init_streams(0, "x"):
        pass
