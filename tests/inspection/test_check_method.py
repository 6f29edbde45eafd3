"""The checks of every run, and `peftbench check`: plugins with one mistake each, caught by the check that is meant for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftbench.errors import Mistaken
from peftbench.execution.execute import execute
from peftbench.inspection import check_method
from peftbench.inspection.check_method import MODELS, check_file, tiny_run
from peftbench.inspection.larger_weights import on_larger_weights
from peftbench.plugins import loader, registry
from peftbench.plugins.fence import Fence
from peftbench.records.runs import Conditions
from peftbench.render.checks import ADVICE, checks_text

from ..support.commands import peftbench
from ..support.mistake import IN_DECODERS
from ..support.mistakes import MISTAKES

HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from peftbench import Claims, Preset, method, plain, select, swap, weight_of
from peftbench.methods.lora import LoRA, LoRALinear

ALL = Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True)

"""

PARAMETRIZED = """
from torch.nn.utils import parametrize
from peftbench import Adaptation

class Plus(nn.Module):
    on = True
    def __init__(self, weight):
        super().__init__()
        out_features, in_features = weight.shape
        self.a = nn.Parameter(torch.randn(4, in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(out_features, 4))
    def forward(self, weight):
        return weight + self.b @ self.a if self.on else weight

@method("computed", Claims(identity_at_init=True, exact_base=True, random_init=True), Preset(1e-3, "a test"))
@dataclass(frozen=True)
class Computed:
    def inject(self, model):
        added = {}
        for name, layer in list(model.named_modules()):
            if name.endswith("query"):
                added[name] = Plus(layer.weight)
                parametrize.register_parametrization(layer, "weight", added[name])
        def toggle(on):
            for one in added.values():
                one.on = on
        params = {n: p for n, p in model.named_parameters() if n.endswith((".a", ".b"))}
        return Adaptation(model, params, toggle=toggle)
"""

BAD = {
    "starts_elsewhere": (
        "identity at init",
        """
def inject(self, model):
    def build(base, sites):
        layer = LoRALinear(base, sites, LoRA())
        layer.b.data.normal_(0, 0.5)
        return layer
    return swap(model, "query+value", build)
""",
    ),
    "scrambles_on_injection": (
        "identity at init",
        """
def inject(self, model):
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    return select(model)
""",
    ),
    "trains_the_base": (
        "base unchanged",
        """
def inject(self, model):
    adaptation = LoRA().inject(model)
    adaptation.params.update({n: p for n, p in model.named_parameters() if n.endswith("base.weight")})
    return adaptation
""",
    ),
    "writes_what_it_hides": (
        "only declared moves",
        """
def inject(self, model):
    adaptation = LoRA().inject(model)
    hidden = next(iter(adaptation.swaps.values()))[0]
    def after_step(step, steps):
        weight_of(hidden).data.add_(1e-3)
    adaptation.after_step = after_step
    return adaptation
""",
    ),
    "merges_wrongly": (
        "merge",
        """
class Wrong(LoRALinear):
    def fold(self):
        return plain(self.base, weight_of(self.base) - self.scale * self.up() @ self.a, self.base.bias)

def inject(self, model):
    return swap(model, "query+value", lambda base, sites: Wrong(base, sites, LoRA()))
""",
    ),
    "forgets_to_merge": (
        "merge",
        """
class Forgetful(LoRALinear):
    def fold(self):
        return self.base

def inject(self, model):
    return swap(model, "query+value", lambda base, sites: Forgetful(base, sites, LoRA()))
""",
    ),
    "forgets_a_part": (
        "save and load",
        """
def inject(self, model):
    adaptation = LoRA().inject(model)
    adaptation.stored = lambda: {n: p.detach() for n, p in adaptation.params.items() if n.endswith(".b")}
    return adaptation
""",
    ),
    "ignores_the_seed": (
        "seed",
        """
def inject(self, model):
    def build(base, sites):
        layer = LoRALinear(base, sites, LoRA())
        layer.a.data.copy_(torch.randn(layer.a.shape, generator=torch.Generator().manual_seed(0)))
        return layer
    return swap(model, "query+value", build)
""",
    ),
    "draws_from_the_clock": (
        "seed",
        """
def inject(self, model):
    def build(base, sites):
        layer = LoRALinear(base, sites, LoRA())
        generator = torch.Generator()
        generator.seed()
        layer.a.data.copy_(torch.randn(layer.a.shape, generator=generator))
        return layer
    return swap(model, "query+value", build)
""",
    ),
    "leaves_nothing": (
        "runs",
        """
def inject(self, model):
    adaptation = LoRA().inject(model)
    adaptation.params.clear()
    return adaptation
""",
    ),
    "raises": (
        "runs",
        """
def inject(self, model):
    return model.no_such_thing
""",
    ),
}


def plugin(name: str, code: str) -> str:
    claims = "Claims(identity_at_init=True)" if name == "scrambles_on_injection" else "ALL"
    return (
        HEAD
        + code
        + f"\n@method({name!r}, {claims}, Preset(1e-3, 'a test'))\n@dataclass(frozen=True)\nclass Bad:\n"
        + "    inject = inject\n"
    )


@pytest.fixture
def one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plugin does wrong everywhere shows on one."""
    monkeypatch.setattr(check_method, "MODELS", MODELS[:1])


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("one_family")
def test_a_bad_plugin_is_caught_by_the_check_that_is_meant_for_it(name: str, tmp_path: Path) -> None:
    wanted, code = BAD[name]
    file = tmp_path / f"{name}.py"
    file.write_text(plugin(name, code))
    checked = check_file(str(file), (), tmp_path)
    failed = {one.name for one in checked if one.outcome == "fail"}
    assert wanted in failed, checked
    # What follows from it may fail as well: a wrong base or initialisation can't be reloaded or merged.
    follows = {
        "trains_the_base": {"only declared moves", "save and load", "merge"},
        "writes_what_it_hides": {"base unchanged", "save and load"},
        "draws_from_the_clock": set(),
    }
    assert failed - {wanted} <= follows.get(name, set()), checked
    said = checks_text([one.__dict__ for one in checked])
    assert ADVICE[wanted] in said and "fail" in said and name in said


@pytest.mark.parametrize("name", MISTAKES)
def test_an_honest_mistake_is_found(name: str, tmp_path: Path) -> None:
    """By the checks of a run, or where a few steps do not show it, on larger weights."""
    mistake, file = MISTAKES[name], tmp_path / f"mistake_{name.replace('-', '_')}.py"
    file.write_text(mistake.source(name))
    fence = Fence()
    try:
        loader.load_plugins([file])
        run = tiny_run(name, MODELS[1 if mistake.kind in IN_DECODERS else 0])
        if mistake.in_every_run:
            checks = execute(run, tmp_path, Conditions(threads=1)).checks or []
            failed = {check["name"] for check in checks if check["outcome"] == "fail"}
        else:
            failed = {check.name for check in on_larger_weights(run) if check.outcome == "fail"}
    except Mistaken:  # it never begins
        failed = {"runs"}
    finally:
        fence.restore()
    assert mistake.check in failed


def test_a_weight_that_is_computed_under_another_name_is_loaded_too(tmp_path: Path) -> None:
    """torch's parametrizations rename the base's own parameters, and stay there when the method is switched off."""
    file = tmp_path / "computed.py"
    file.write_text(HEAD + PARAMETRIZED)
    loader.load_plugins([file])
    record = execute(tiny_run("computed", MODELS[0]), tmp_path, Conditions(threads=1))
    assert {one["outcome"] for one in record.checks or ()} <= {"pass", "not claimed"}, record.checks


def test_what_a_plugin_sets_on_import_is_put_back(tmp_path: Path) -> None:
    file = tmp_path / "sets_threads.py"
    file.write_text("import torch\ntorch.set_default_dtype(torch.float64)\n")
    loader.load_plugins([file])
    assert torch.get_default_dtype() == torch.float32
    assert loader.disturbances_of(file) == ["the default data type on import"]


@pytest.mark.parametrize("name", registry.load("method"))
def test_every_registered_method_keeps_its_claims(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an encoder and on a decoder with fused projections."""
    if registry.get("method", name).path.parent.name != "methods":
        pytest.skip("is another test's")
    monkeypatch.setattr(check_method, "MODELS", (MODELS[0], MODELS[2]))
    checked = check_file({"peft": "peft-ia3"}.get(name, name), (), tmp_path)
    assert not [one for one in checked if one.outcome in ("fail", "not tested")], checked


def test_a_registered_name_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lora").write_text("no plugin")
    monkeypatch.chdir(tmp_path)
    assert check_method._asked("lora") == (["lora"], [])


def test_check_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(plugin("mine_starts_elsewhere", BAD["starts_elsewhere"][1]))
    bad = peftbench("check", "mine.py", cwd=tmp_path)
    assert bad.returncode == 1 and "start its last factor at zero" in bad.stdout, bad.stderr
    assert "outputs differ from the base's by" in bad.stdout
    good = peftbench("check", "lora:rank=2", cwd=tmp_path)
    assert good.returncode == 0 and "every claim holds" in good.stdout
    (tmp_path / "empty.py").write_text("x = 1\n")
    for what, said in (
        ("lroa", "did you mean 'lora'"),
        ("empty.py", "registers no method"),
        ("no.py", "does not exist"),
    ):
        wrong = peftbench("check", what, cwd=tmp_path)
        assert wrong.returncode == 2 and said in wrong.stderr and wrong.stderr.count("\n") == 1, wrong.stderr
