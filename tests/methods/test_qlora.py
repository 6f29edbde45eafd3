"""QLoRA: codes as the paper has them, whichever library forms weights from them, and originals that are off the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peftbench.methods import _quantised  # noqa: TID251  the layers themselves are under test
from torch import nn

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.planning.plan import plan
from peftbench.plugins import build
from peftbench.records.runs import Run

from ..support.adapted import adapted, inputs

GPU = Capacity((Device("cuda", 1, 2**34, True),), cores=1)


def test_weights_are_what_the_codes_say_whatever_is_formed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each block's weight the nearest of 16 values times the block's largest: the plain formula, bit for bit."""
    weight = torch.randn(7, 30, generator=torch.Generator().manual_seed(0))  # the last block is cut
    blocks = nn.functional.pad(weight.view(-1), (0, -weight.numel() % 64)).view(-1, 64)
    values, scales = torch.tensor(_quantised.NORMAL_FLOAT), blocks.abs().amax(1, keepdim=True)
    nearest = ((blocks / scales)[..., None] - values).abs().argmin(-1)
    want = (values[nearest] * scales).view(-1)[: weight.numel()].view(weight.shape)
    for chunk in (1, 2**16):
        monkeypatch.setattr(_quantised, "CHUNK", chunk)
        layer = _quantised.FourBitLinear(weight, None)
        assert torch.equal(layer.dense(), want)
        assert torch.equal(layer.dense(torch.bfloat16), want.bfloat16())


def test_what_codes_stand_for_is_never_cast() -> None:
    """A model is cast to serve; kernels read scales in the type that they were made in."""
    weight = torch.randn(8, 64)
    for layer in (_quantised.FourBitLinear(weight, None), _quantised.EightBitLinear(weight, None)):
        before = layer.dense()
        assert torch.equal(layer.to(torch.bfloat16).dense(), before)


def test_bitsandbytes_computes_in_the_runs_type_from_the_same_codes() -> None:
    """Its scales are in 8 bits themselves, which is 1 % of the largest in a group of 256."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    base = nn.Linear(64, 96)
    ours, theirs = (_quantised.quantise(base, 4, backend) for backend in ("torch", "bitsandbytes"))
    dense: Any = ours, theirs
    torch.testing.assert_close(*(layer.dense() for layer in dense), rtol=0.02, atol=2e-3)
    held = sum(b.nbytes for name, b in theirs.named_buffers() if name in ("codes", "scales"))
    assert held == 64 * 96 // 2 + 64 * 96 // 64  # 4 bits a weight, 8 bits a block
    assert not list(theirs.parameters())  # nothing that a cast to the compute type would take for a weight
    x = torch.randn(5, 64, requires_grad=True)
    plain = nn.functional.linear(x, dense[1].dense(), base.bias.detach())
    torch.testing.assert_close(theirs(x), plain, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(theirs(x).sum(), x)
    torch.testing.assert_close(gradient, dense[1].dense().sum(0).expand(5, 64), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert theirs(x).dtype == torch.bfloat16


def test_a_run_on_a_gpu_has_its_backend_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed, name in ((True, "bitsandbytes"), (False, "torch")):
        monkeypatch.setattr("peftbench.methods.qlora.has_bitsandbytes", lambda installed=installed: installed)
        assert build.canonical("qlora", "cuda") == f"qlora:backend={name}"
        assert build.canonical("qlora:bits=8", "cuda") == "qlora:bits=8:backend=torch"
    assert build.canonical("qlora", "cpu") == build.canonical("qlora") == "qlora"
    asked = Comparison(("qlora",), models=("tiny-encoder",), tasks=("synthetic",), baselines=False)
    assert {item.run.method for item in plan(asked, GPU)} == {"qlora:backend=torch"}


def test_what_is_not_installed_is_said_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_quantised, "has_bitsandbytes", lambda: False)
    asked = Comparison(("qlora:backend=bitsandbytes",), models=("tiny-encoder",), tasks=("synthetic",))
    with pytest.raises(UsageError, match="needs that library: pip install bitsandbytes"):
        plan(asked, GPU)


def test_originals_come_to_the_device_one_by_one_and_stay_as_they_are(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """The device without weights stands for a GPU: a layer that is elsewhere could not compute there."""
    adaptation: Any = adapted(make_run("qlora", checkpoint("bert"))).adaptation
    bases = [base for base, _ in adaptation.swaps.values()]
    before = [base.weight.detach().clone() for base in bases]
    adaptation.model.to("meta")
    there: list[int] = []
    for base in bases:
        base.register_forward_hook(lambda *_: there.append(sum(b.weight.is_meta for b in bases)))
    with torch.inference_mode(), adaptation.without() as model:
        assert model(input_ids=inputs()["input_ids"].to("meta")).logits.is_meta
    assert there and set(there) == {1}
    assert all(torch.equal(base.weight, weight) for base, weight in zip(bases, before, strict=True))


@pytest.mark.parametrize(("method", "goes"), [("qlora", True), ("lora", False)])
def test_what_no_wrapper_holds_is_set_aside(
    method: str, goes: bool, make_run: Callable[..., Run], checkpoint: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    adaptation = adapted(make_run(method, checkpoint("bert"))).adaptation
    gone: list[nn.Module] = []
    monkeypatch.setattr(nn.Linear, "to", lambda layer, device: gone.append(layer))
    adaptation.set_aside()
    assert gone == ([base for base, _ in adaptation.swaps.values()] if goes else [])
