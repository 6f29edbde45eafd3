"""The adapters against their written formulas, their places, and their counts at the papers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from peftbench import NotSupported, UsageError, weight_of
from peftbench.execution.prepare import Prepared
from peftbench.models.precision import checkpoint_activations
from peftbench.models.roles import sites
from peftbench.plugins.build import canonical
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs, logits
from ..support.injected import build, fill, gpt2, inject, meta, roberta

Make = Callable[..., Run]
Of = Callable[[str], str]

FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "llama", "opt")
METHODS = ("adapter-h", "adapter-l", "adapter-p", "adapter-d", "parallel-adapter")


def bottleneck(layer: Any, u: Tensor) -> Tensor:
    """W_up relu(W_down u + b_down) + b_up."""
    hidden = (u @ layer.down.T + layer.down_bias).clamp(min=0)
    out: Tensor = hidden @ layer.up.T + layer.up_bias
    return out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_acts_once_trained_and_can_be_taken_out(
    method: str, family: str, make_run: Make, checkpoint: Of
) -> None:
    prepared = adapted(make_run(f"{method}:bottleneck=3", checkpoint(family)))
    with prepared.adaptation.without():
        base = logits(prepared)
    # W_up is zero: nothing is added. The sums are those of the base, so they are equal bitwise.
    assert torch.equal(logits(prepared), base)
    fill(prepared.adaptation)
    assert (logits(prepared) - base).norm() > 1e-2 * base.norm()
    prepared.adaptation.remove()
    assert torch.equal(logits(prepared), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_l_equals_its_formula(family: str, make_run: Make, checkpoint: Of) -> None:
    """u + up(relu(down(LN(u)))), with a gain and a bias of its own."""
    adaptation = adapted(make_run("adapter-l:bottleneck=3", checkpoint(family))).adaptation
    fill(adaptation)
    assert len(adaptation.swaps) == 2
    for base, wrapper in adaptation.swaps.values():
        parts: Any = wrapper.get_submodule("adapter")
        norm, layer = parts
        x = torch.randn(4, 5, weight_of(base).shape[1])
        u = base(x)
        centred = u - u.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.gain + norm.bias
        # Sums of 64 products in float32, in two orders.
        torch.testing.assert_close(wrapper(x), u + bottleneck(layer, normed), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "mpnet"])
def test_adapter_p_norms_twice_where_the_block_ends_in_a_norm(
    family: str, make_run: Make, checkpoint: Of
) -> None:
    """u = LN(h + input); LN(h + up(relu(down(u))) + input), with one draw of dropout, and its gradients."""
    adaptation = adapted(make_run("adapter-p:bottleneck=3", checkpoint(family))).adaptation
    fill(adaptation)
    assert len(adaptation.swaps) == 2
    for name, (base, wrapper) in adaptation.swaps.items():
        assert name.endswith(".output") and not name.endswith("attention.output")
        layer: Any = wrapper
        frozen: Any = base
        layer.train()
        assert frozen.dropout.p > 0
        for p in (frozen.dense.bias, frozen.LayerNorm.weight, frozen.LayerNorm.bias):
            p.data.normal_()  # zeros and ones in a model that was never trained
        x, before = torch.randn(2, 5, 64), torch.randn(2, 5, 32)
        torch.manual_seed(1)
        got = layer(x, before)
        torch.manual_seed(1)
        h = frozen.dropout(x @ frozen.dense.weight.T + frozen.dense.bias)
        norm = frozen.LayerNorm
        u = nn.functional.layer_norm(h + before, (32,), norm.weight, norm.bias, norm.eps)
        added = h + bottleneck(layer.adapter, u)
        want = nn.functional.layer_norm(added + before, (32,), norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        trained = list(layer.adapter.parameters())
        ours = torch.autograd.grad(got.square().sum(), trained)
        theirs = torch.autograd.grad(want.square().sum(), trained)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "llama", "opt"])
def test_adapter_p_elsewhere_follows_the_output_projection(
    family: str, make_run: Make, checkpoint: Of
) -> None:
    adaptation = adapted(make_run("adapter-p:bottleneck=3", checkpoint(family))).adaptation
    fill(adaptation)
    assert len(adaptation.swaps) == 2
    for base, wrapper in adaptation.swaps.values():
        layer: Any = wrapper
        x = torch.randn(4, 5, weight_of(base).shape[1])
        u = base(x)
        torch.testing.assert_close(layer(x), u + bottleneck(layer.adapter, u), rtol=1e-5, atol=1e-5)


def tiny_roberta(layers: int) -> Any:
    config = transformers.RobertaConfig(
        hidden_size=8, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    return meta(transformers.RobertaModel, config)


@pytest.mark.parametrize(
    ("blocks", "method", "lowest"),
    [(12, "adapter-d", 5), (24, "adapter-d", 10), (2, "adapter-d", 1), (12, "adapter-d:dropped=8", 8),
     (3, "adapter-d:dropped=0", 0)],
)  # fmt: skip
def test_adapterdrop_leaves_the_lowest_blocks_alone(blocks: int, method: str, lowest: int) -> None:
    adaptation = inject(method, tiny_roberta(blocks))
    assert list(adaptation.swaps) == [f"encoder.layer.{layer}.output" for layer in range(lowest, blocks)]


def test_adapterdrop_is_refused_where_nothing_is_left() -> None:
    for blocks, method in ((1, "adapter-d"), (3, "adapter-d:dropped=3")):
        with pytest.raises(NotSupported, match="leaves none"):
            inject(method, tiny_roberta(blocks))


def test_adapterdrop_ends_the_backward_pass_at_its_first_adapter(make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("adapter-d", checkpoint("bert"))).adaptation
    reached: list[bool] = []
    for site in sites(adaptation.model, "block"):
        site.module.register_forward_hook(lambda _, __, out: reached.append(out.requires_grad))
    adaptation.model(**inputs())
    assert reached == [False, True]


def passes(prepared: Prepared) -> list[tuple[Any, list[Tensor], Tensor, Tensor]]:
    """What went through each feed-forward in a pass: wrapper, inputs, the base's output and the whole one."""
    seen: dict[str, Tensor] = {}

    def note(name: str, of: nn.Module, outputs: bool) -> None:
        def hook(_: nn.Module, got: Any, out: Tensor) -> None:
            seen[name] = out if outputs else got[0]

        of.register_forward_hook(hook)

    model = prepared.adaptation.model
    found = sites(model, "ffn_in+ffn_out")
    for site in found:
        if site.role == "ffn_out":
            note(f"{site.name} base", site.module.get_submodule("base"), True)
        note(site.name, site.module, site.role == "ffn_out")
    logits(prepared)
    done = []
    for block in sites(model, "block"):
        inside = [site for site in found if site.name.startswith(f"{block.name}.")]
        end = next(site for site in inside if site.role == "ffn_out")
        starts = [seen[site.name] for site in inside if site.role == "ffn_in"]
        done.append((end.module, starts, seen[f"{end.name} base"], seen[end.name]))
    return done


@pytest.mark.parametrize("family", [*FAMILIES, "qwen2", "t5"])
def test_parallel_adapter_equals_its_formula(family: str, make_run: Make, checkpoint: Of) -> None:
    """FFN(x) + s up(relu(down(x))) in each block of a model at work, gated feed-forwards among them."""
    prepared = adapted(make_run("parallel-adapter:bottleneck=3:scale=2.5", checkpoint(family)))
    fill(prepared.adaptation)
    through = passes(prepared)
    assert len(through) == (4 if family == "t5" else 2)
    for layer, starts, base, got in through:
        assert len(starts) == (2 if family in ("llama", "qwen2") else 1)
        for x in starts:
            torch.testing.assert_close(got, base + 2.5 * bottleneck(layer.adapter, x), rtol=1e-4, atol=1e-4)
        assert layer.seen.value is None  # nothing is held between passes


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_parallel_adapter_under_checkpointed_activations(family: str, make_run: Make, checkpoint: Of) -> None:
    """Blocks that run again in the backward pass note their inputs again, and let them go."""
    found = []
    for checkpointed in (False, True):
        prepared = adapted(make_run("parallel-adapter", checkpoint(family)))
        adaptation = prepared.adaptation
        fill(adaptation)
        if checkpointed:
            checkpoint_activations(adaptation.model)
        adaptation.model.train()
        torch.manual_seed(0)
        out: Any = adaptation.model(**inputs()).logits
        out.square().sum().backward()
        found.append([p.grad for p in adaptation.params.values()])
        ends: list[Any] = [wrapper for _, wrapper in adaptation.swaps.values() if hasattr(wrapper, "adapter")]
        assert len(ends) == 2 and all(end.seen.value is None for end in ends)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_parallel_adapter_compiles_without_a_break(family: str, make_run: Make, checkpoint: Of) -> None:
    """The input that travels past a layer is part of one graph, and gone afterwards as in an eager pass."""
    prepared = adapted(make_run("parallel-adapter", checkpoint(family)))
    fill(prepared.adaptation)
    block = sites(prepared.adaptation.model, "ffn_out")[0].name.rpartition(".")[0].removesuffix(".output")
    module: Any = prepared.adaptation.model.get_submodule(block)
    ffn = module.feed_forward_chunk if family == "bert" else module
    x = torch.randn(2, 5, 32)
    want = ffn(x)
    torch._dynamo.reset()
    try:
        compiled: Any = torch.compile(ffn, backend="aot_eager", fullgraph=True)
        got = compiled(x)
    finally:
        torch._dynamo.reset()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    ends: list[Any] = [wrapper for _, wrapper in prepared.adaptation.swaps.values()]
    assert len(ends) == 4 and all(end.seen.value is None for end in ends)


def test_draws_have_the_spread_that_the_docstrings_say(make_run: Make, checkpoint: Of) -> None:
    for method, std in (("adapter-l", 0.02), ("adapter-p", 0.02), ("parallel-adapter", (3 * 32) ** -0.5)):
        params = adapted(make_run(f"{method}:bottleneck=64", checkpoint("bert"))).adaptation.params
        drawn = torch.cat([p.flatten() for name, p in params.items() if name.endswith(".down")])
        assert drawn.numel() == 2 * 64 * 32
        # The spread of 4,096 draws is known to 1.1 %, one standard error.
        assert abs(drawn.std() / std - 1) < 0.05


@pytest.mark.parametrize(
    ("model", "method", "parameters"),
    [
        (lambda: roberta(True), "adapter-h:bottleneck=8", 835_968),
        (lambda: gpt2(False), "adapter-l:bottleneck=6", 368_784),
        (lambda: gpt2(False), "adapter-l:bottleneck=224", 11_089_152),
        (lambda: gpt2(True), "adapter-l:bottleneck=8", 875_808),
        (lambda: gpt2(True), "adapter-l:bottleneck=248", 23_002_848),
        (lambda: roberta(True), "adapter-p:bottleneck=16", 811_392),
        (lambda: roberta(True), "adapter-p:bottleneck=64", 3_171_840),
        (lambda: roberta(False), "adapter-d:dropped=0", 894_528),
        (lambda: roberta(False), "adapter-d:dropped=8", 298_176),
        (lambda: roberta(False), "adapter-d", 7 * (2 * 768 * 48 + 48 + 768)),
        (lambda: gpt2(False), "parallel-adapter:bottleneck=16", 24 * (2 * 1024 * 16 + 16 + 1024)),
    ],
)
def test_counts_at_the_papers_sizes(model: Callable[[], Any], method: str, parameters: int) -> None:
    """2 d r + r + d an adapter, and 2 d a new LayerNorm: Hu et al., tables 2 and 3."""
    adaptation = inject(method, model())
    assert sum(p.numel() for p in adaptation.params.values()) == parameters


def test_adapter_is_another_name_of_houlsbys() -> None:
    assert canonical("adapter") == "adapter-h"
    assert (
        canonical("adapter:bottleneck=4") == canonical("adapter-h:bottleneck=4") == "adapter-h:bottleneck=4"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_bottleneck_of_nothing_is_refused(method: str) -> None:
    with pytest.raises(UsageError, match="bottleneck must be 1 or more"):
        build(f"{method}:bottleneck=0")
