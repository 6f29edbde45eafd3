"""What can't be shared says so, before it trains on numbers that nobody has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peftbench.errors import NotSupported
from peftbench.execution import prepare
from peftbench.plugins import build, loader
from peftbench.records.runs import DDP, FSDP, Run

from .test_ranks import as_two, in_two

Make = Callable[..., Run]
METHODS = """
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .full import Full

@method("test-anchored", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Anchored(Full):
    def inject(self, model):
        made = super().inject(model)
        pairs = [(p, p.detach().clone()) for p in made.params.values()]
        made.penalty = lambda: sum(((p - before) ** 2).sum() for p, before in pairs)
        return made

@method("test-masked", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Masked(Full):
    def inject(self, model):
        made = super().inject(model)
        for p in made.params.values():
            p.requires_grad_().register_hook(lambda gradient: gradient * 0)
        return made
"""


def test_a_method_that_keeps_to_the_whole_weights_is_refused(make_run: Make, tmp_path: Path) -> None:
    """It would pull at tensors that are in the model no more, or see none of their gradients, and nothing would tell."""
    (tmp_path / "keeps_whole.py").write_text(METHODS)
    loader.load_plugins([tmp_path / "keeps_whole.py"])

    def refusal(run: Run) -> str | None:
        try:
            prepare.prepare(run, prepare.objective_for(run, build.build_task(run.task)), "cpu")
        except NotSupported as error:
            return str(error)
        return None

    kinds = [make_run("test-anchored"), make_run("test-masked")]
    runs = [as_two(run, parallel) for parallel in (FSDP, DDP) for run in kinds]
    anchored, masked, *alone = in_two(runs, tmp_path, refusal)
    assert "is kept beside the model" in anchored and "has hooks" in masked and alone == [None, None]
    assert all(said.endswith("add --parallel ddp") for said in (anchored, masked))
