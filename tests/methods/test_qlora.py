"""QLoRA: codes as the paper has them, whichever library forms weights from them, and originals that are off the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peftbench.methods import _quantised  # noqa: TID251  the layers themselves are under test
from torch import nn

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.execution import prepare
from peftbench.execution.execute import execute
from peftbench.models.adaptation import layers_at_home, swap
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.roles import Site, sites
from peftbench.planning.plan import plan
from peftbench.plugins import build
from peftbench.records.record import NOT_CLAIMED, PASS
from peftbench.records.runs import Conditions, Run

from ..inspection.test_export import outputs
from ..support.adapted import adapted, inputs, logits
from ..support.exported import exported, trained

__all__ = ["trained"]  # a fixture
Make = Callable[..., Run]
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


def test_a_layer_is_on_its_device_while_it_is_replaced_and_stays_where_it_is_held() -> None:
    """A base that fits no device but as codes. Here a data type stands for the device."""
    model: Any = nn.ModuleDict({"q": nn.Linear(4, 4), "k": nn.Linear(4, 4)})
    seen: dict[str, torch.dtype] = {}

    def build(base: nn.Module, its: list[Site]) -> nn.Module:
        seen[its[0].name] = next(base.parameters()).dtype
        return nn.Sequential(base) if its[0].name == "q" else nn.Linear(4, 4)

    before = {name: layer.weight.clone() for name, layer in model.items()}
    with layers_at_home(torch.float64):  # type: ignore[arg-type]
        swapped = swap(model, [Site("query", name, model[name], None) for name in ("q", "k")], build).swaps
    assert set(seen.values()) == {torch.float64}
    types = {name: next(base.parameters()).dtype for name, (base, _) in swapped.items()}
    assert types == {"q": torch.float64, "k": torch.float32}
    bases: dict[str, Any] = {name: base for name, (base, _) in swapped.items()}
    assert all(torch.equal(base.weight.float(), before[name]) for name, base in bases.items())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_model_that_waits_on_the_host_trains_the_same(
    device: str, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("qlora", "tiny-decoder", device=device, steps=2)
    direct = execute(run, tmp_path, Conditions())
    monkeypatch.setattr(prepare, "is_for_host", lambda *asked: True)
    waiting = execute(run, tmp_path, Conditions())
    assert {check["outcome"] for check in waiting.checks or ()} <= {PASS, NOT_CLAIMED}
    for its in (direct, waiting):
        assert its.training and its.checks
    assert (waiting.training or {})["losses"] == (direct.training or {})["losses"]
    assert [c["outcome"] for c in waiting.checks or ()] == [c["outcome"] for c in direct.checks or ()]


@pytest.mark.cuda
def test_the_whole_base_is_never_on_the_gpu(
    make_run: Make, checkpoint: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("qlora", checkpoint("llama"), device="cuda", weights="bfloat16", dtype="bfloat16")
    peaks = []
    for on_host in (False, True):
        monkeypatch.setattr(prepare, "is_for_host", lambda *asked, on_host=on_host: on_host)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        prepared = prepare.prepare(run, None, "cuda")
        peaks.append(torch.cuda.max_memory_allocated() - before)
        dense = sum(p.nbytes for base, _ in prepared.adaptation.swaps.values() for p in base.parameters())
        del prepared
    assert peaks[1] <= peaks[0] - dense / 2


@pytest.mark.parametrize("family", ["tiny-encoder", "bert", "llama", "gpt2"])
@pytest.mark.parametrize("targets", ["query+value", "query+key+value+attention_output+ffn_in+ffn_out"])
def test_an_export_is_a_lora_over_the_same_codes(
    targets: str, family: str, trained: Any, checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """Loaded by the lines of its README, over the base that bitsandbytes quantises."""
    pytest.importorskip("bitsandbytes")
    model = family if family.startswith("tiny") else checkpoint(family)
    prepared, record = trained(f"qlora:rank=4:targets={targets}", model)
    folder = exported(record, tmp_path)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    with warnings.catch_warnings():  # of what one library calls of another
        warnings.simplefilter("ignore")
        exec(code, {"FOLDER": str(folder)}, found)  # noqa: S102  the lines of its card
    theirs = outputs(found["model"].eval(), folder)
    with torch.no_grad(), prepared.adaptation.without():
        of_base = logits(prepared)
    ours = logits(prepared)
    assert (theirs - ours).norm() < 1e-3 * (ours - of_base).norm()


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


@pytest.mark.parametrize("family", ["gpt2", "t5", "llama"])
def test_all_linear_layers_get_a_pair(family: str, checkpoint: Callable[[str], str]) -> None:
    """Fused ones, and those of attention across, which no role names."""
    model = load_model(resolve_model(checkpoint(family)), None, 0).model
    wanted = {site.name for site in sites(model, "all-linear")}
    adaptation = build.build_method("qlora:targets=all-linear")[0].inject(model)
    paired = {name.rpartition(".")[0] for name in adaptation.params}
    assert paired == wanted == set(adaptation.swaps)
