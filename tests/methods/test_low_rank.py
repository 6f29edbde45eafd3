"""LoRA's layer as one step of autograd: its formula's numbers, in so many launches and bytes, and of copies that are never old."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peftbench.methods._low_rank import Copies, LowRank  # noqa: TID251  the layer itself is under test
from peftbench.methods.lora import LoRA, LoRALinear  # noqa: TID251
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from peftbench import Site
from peftbench.measure.arithmetic import count_flops

HALF = torch.bfloat16
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
)


class Formula(LoRALinear):  # type: ignore[misc]
    """The twin: a layer with an `update` of its own, here the formula, is computed by that."""

    def update(self, flat: Tensor, out: Tensor) -> Tensor:
        return super().update(flat, out)  # type: ignore[no-any-return]


def build(
    kind: type[LoRALinear] = LoRALinear,
    base: str = "linear",
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    copies: Copies | None = None,
) -> Any:
    """A layer of 32 to 48 outputs (one of three thirds left alone where fused), over a frozen base, with numbers in B."""
    torch.manual_seed(0)
    fused = base == "fused"
    inner: Any = Conv1D(48, 32) if fused else nn.Linear(32, 48, bias=base == "linear")
    inner.requires_grad_(False)
    sites = [
        Site(role, "layer", inner, 0, rows if fused else None)
        for role, rows in (("query", (0, 16)), ("value", (32, 48)))
    ]
    layer = kind(inner, sites[: 1 + fused], LoRA(rank=4, alpha=6, dropout=dropout), copies)
    for p in (layer.a, layer.b):
        p.data.normal_(0, 0.3)
    return layer.to(dtype)


def gradients(layer: Any, x: Tensor, out: Tensor) -> list[Tensor]:
    """Of x, A, B and the base's weight, where they take part; of a sum that weighs each output differently."""
    weighed = (out.double() * torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)).sum()
    parts = [p for p in (x, layer.a, layer.b, layer.base.weight) if p.requires_grad]
    return [out.detach(), *torch.autograd.grad(weighed, parts)]


@pytest.mark.parametrize("trained", ["a and b", "b", "base too"])
@pytest.mark.parametrize("base", ["linear", "no bias", "fused"])
def test_equals_the_formula(base: str, trained: str) -> None:
    layer = build(base=base, dtype=torch.float64)
    layer.a.requires_grad_(trained != "b")
    layer.base.weight.requires_grad_(trained == "base too")
    x = torch.randn(3, 5, 32, dtype=torch.float64, requires_grad=True)
    inner = layer.base(x) if trained == "base too" else None
    got = gradients(layer, x, LowRank.apply(x, layer.a, layer.b, inner, layer, torch.float64))
    want = gradients(layer, x, layer(x))  # float64 on a CPU: the formula
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)  # sums of some dozens, in two orders


def test_dropout_is_of_the_update_alone() -> None:
    layer = build(dropout=0.4, dtype=torch.float64).train()
    x = torch.randn(6, 32, dtype=torch.float64, requires_grad=True)

    def outputs(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        torch.manual_seed(7)
        return LowRank.apply(x, a, b, None, layer, torch.float64)  # type: ignore[no-any-return]

    got = outputs(x, layer.a, layer.b)
    torch.manual_seed(7)
    seen, _ = torch.native_dropout(x, 0.4, True)
    torch.testing.assert_close(
        got, layer.base(x) + 1.5 * seen @ layer.a.T @ layer.b.T, rtol=1e-12, atol=1e-12
    )
    torch.autograd.gradcheck(outputs, (x, layer.a, layer.b))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("stream", [torch.float32, HALF])
@pytest.mark.parametrize("base", ["linear", "fused"])
def test_half_precision_rounds_and_no_more(base: str, stream: torch.dtype, device: str) -> None:
    """Against float64 on the rounded numbers: two roundings of 2^-9 on the way to anything, and one at its end."""
    layer = build(base=base).to(device)
    layer.base.to(HALF)
    exact = copy.deepcopy(layer).double()
    for p in (exact.a, exact.b):
        p.data = p.data.to(HALF).double()
    x = torch.randn(4, 9, 32, device=device).to(HALF).to(stream).requires_grad_()
    with torch.autocast(device, HALF):
        out = layer(x)
    assert out.dtype == HALF
    got = gradients(layer, x, out)
    y = x.detach().double().requires_grad_()
    want = gradients(exact, y, exact.update(y.flatten(0, -2), exact.base(y.flatten(0, -2))).view(4, 9, 48))
    assert [g.dtype for g in got[1:]] == [stream, torch.float32, torch.float32]
    for ours, theirs in zip(got, want, strict=True):
        assert (ours.double() - theirs).norm() <= 3 * 2**-9 * theirs.norm()


FREE = (
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "slice",
    "detach",
    "expand",
    "as_strided",
    "empty",
    "new_empty",
    "empty_like",
)


class Launches(TorchDispatchMode):
    """Counts what a GPU would start a kernel for; views, sizes and memory are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> object:
        name = function._schema.name.removeprefix("aten::")
        if name not in FREE:
            self.counts[name] += 1
        return function(*arguments, **(options or {}))


def launches(layers: list[Any], x: Tensor) -> Counter[str]:
    """Of one training step's forward and backward pass through each of the layers."""
    for leaf in (x, *(p for layer in layers for p in layer.parameters())):
        leaf.grad = None
    with Launches() as seen:
        with torch.autocast("cpu", HALF):
            outs = [layer(x) for layer in layers]
        torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
    counts: Counter[str] = seen.counts
    return counts


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_launches(dropout: float) -> None:
    """Six products a layer beside the base's own. A CPU also casts the two gradients, a GPU writes them in float32."""
    copies = Copies()
    layers = [build(dropout=dropout, copies=copies).train() for _ in range(3)]
    for layer in layers:
        layer.base.to(HALF)
    x = torch.randn(2, 5, 32, dtype=HALF, requires_grad=True)
    launches(layers, x)  # the first pass makes the copies one by one
    more = launches(layers, x)
    more.subtract(launches([layer.base for layer in layers], x))
    products = more.pop("addmm") + more.pop("mm")
    # In place of one that adds onto the base's gradient: a product, and the mask in the sum.
    assert products == 3 * 6
    assert more.pop("_foreach_copy_") == 1  # A and B of all layers
    masks = {"native_dropout": 3, "native_dropout_backward": 3, "addcmul_": 3} if dropout else {}
    assert +more == {"_to_copy": 3 * 2, **masks}


@pytest.mark.parametrize("stream", [torch.float32, HALF])
def test_every_product_is_counted(stream: torch.dtype) -> None:
    """By the counter of a cost run, which looks at each layer from inside: two operations a multiply-add."""
    layer = build()
    layer.base.to(HALF)
    x = torch.randn(2, 5, 32, dtype=stream, requires_grad=True)
    counted = count_flops(lambda: step(nn.Sequential(layer), x).sum().backward())
    assert counted == 2 * 10 * (2 * 32 * 48 + 3 * 4 * (32 + 48))


@pytest.mark.parametrize("stream", [torch.float32, HALF])
def test_layers_with_one_input_keep_it_once(stream: torch.dtype) -> None:
    """Query, key and value: 32 numbers a token in 16 bits, and 4 for each of the three."""
    copies = Copies()
    layers = [build(copies=copies) for _ in range(3)]
    for layer in layers:
        layer.base.to(HALF)
    known = {p.untyped_storage().data_ptr() for layer in layers for p in layer.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (
            storage.data_ptr() not in known and len(tensor) == 64
        ):  # a number for each token: not A's and B's copies
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(64, 32, dtype=stream, requires_grad=True) * 1
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", HALF):
        outs = [layer(x) for layer in layers]
    assert sum(kept.values()) == 64 * (32 + 3 * 4) * 2
    assert len(outs) == 3


def step(layer: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", HALF):
        out: Tensor = layer(x)
    return out


def by_optimizer(layer: Any, x: Tensor) -> None:
    optimizer = torch.optim.AdamW(
        [layer.a, layer.b], lr=0.1, fused=True
    )  # leaves a parameter's version as it is
    step(layer, x).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def after_another_pass(layer: Any, x: Tensor) -> None:
    optimizer = torch.optim.AdamW([layer.a, layer.b], lr=0.1, fused=True)
    step(layer, x).sum().backward()
    step(layer, x)
    optimizer.step()
    optimizer.zero_grad()


def used_twice(layer: Any, x: Tensor) -> None:
    """The layer after it has its gradient when this one is computed again for its own."""
    optimizer = torch.optim.AdamW([layer.a, layer.b], lr=0.1, fused=True)
    other = build(copies=layer.copies)
    once: Any = checkpoint(lambda y: step(other, y), x, use_reentrant=False)
    twice: Any = checkpoint(lambda y: step(other, y), once[:, :32].float(), use_reentrant=False)
    step(layer, twice[:, :32]).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def by_loading(layer: Any, x: Tensor) -> None:
    layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})


def by_other_data(layer: Any, x: Tensor) -> None:
    layer.a.data = layer.a.data * 2


@pytest.mark.parametrize("change", [by_optimizer, after_another_pass, used_twice, by_loading, by_other_data])
def test_a_copy_is_never_old(change: Callable[[Any, Tensor], None]) -> None:
    layer = build()
    x = torch.randn(6, 32, requires_grad=True)
    before = step(layer, x)
    assert torch.equal(step(layer, x), before)
    change(layer, x)
    got = step(layer, x)
    assert not torch.equal(got, before)
    assert torch.equal(got, step(copy.deepcopy(layer), x))  # whose copies are its own


def test_a_layer_with_a_formula_of_its_own_keeps_it() -> None:
    x = torch.randn(6, 32, requires_grad=True)
    ours, theirs = step(build(), x), step(build(Formula), x)
    assert type(ours.grad_fn).__name__ == "LowRankBackward"
    assert type(theirs.grad_fn).__name__ != "LowRankBackward"
    assert (ours - theirs).norm() <= 2**-7 * theirs.norm()


def test_float32_on_a_cpu_and_inference_are_the_formulas() -> None:
    layer, x = build(), torch.randn(6, 32)
    assert torch.equal(layer(x), build(Formula)(x))
    with torch.inference_mode():
        assert torch.equal(step(layer, x), step(build(Formula), x))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_without_a_break() -> None:
    layer, x = build(), torch.randn(6, 32, requires_grad=True)
    torch._dynamo.reset()
    try:
        compiled: Any = torch.compile(layer, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(step(compiled, x), step(layer, x), rtol=2**-7, atol=2**-7)
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("base", ["linear", "fused"])
def test_what_it_returns_may_be_changed_in_place(base: str) -> None:
    """As Falcon's blocks do, which add to it; the layer's own gradients stay."""
    layer = build(base=base)
    x = torch.randn(2, 3, 32)
    grads = []
    for in_place in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", HALF):
            out: Tensor = layer(x)
        changed = out.add_(1) if in_place else out + 1
        changed.float().square().sum().backward()
        grads.append([layer.a.grad.clone(), layer.b.grad.clone()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_has_no_second_derivative() -> None:
    layer, x = build(), torch.randn(6, 32, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(step(layer, x).float().square().sum(), x, create_graph=True)
