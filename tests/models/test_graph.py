"""What a method does to a forward pass is read off the model, not off its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from transformers import BertConfig

from peftbench.errors import NotSupported, UsageError
from peftbench.execution.prepare import prepare
from peftbench.models.graph import graph_of
from peftbench.plugins import registry
from peftbench.plugins.build import build_task
from peftbench.records.runs import Run

OWN = {
    "bitfit",
    "ft-top2",
    "full",
    "head",
    "ln",
}  # they train what is there, or what every method puts on top


def test_which_methods_leave_the_graph_alone(make_run: Callable[..., Run]) -> None:
    found = {}
    home = registry.get("method", "lora").path.parent  # without those that other tests register
    built_in = [name for name, entry in registry.load("method").items() if entry.path.parent == home]
    for name in built_in:
        run = make_run(name)
        try:
            found[name] = prepare(run, build_task(run.task).objective, "meta").graph_is_base
        except (NotSupported, UsageError):
            continue
    assert len(found) > 20 and {name for name, same in found.items() if same} == OWN


@pytest.mark.parametrize("how", ["hook", "function", "module", "setting", "layout", "config", "attention"])
def test_a_change_that_is_no_swap_is_seen(how: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
            self.config: Any = BertConfig()

    model: Any = Model()
    before = graph_of(model)
    assert graph_of(model) == before
    if how == "hook":
        model.layer[0].register_forward_hook(lambda module, args, output: output)
    elif how == "function":
        model.layer[0].forward = lambda x: x
    elif how == "module":
        model.layer[1] = nn.GELU()
    elif how == "setting":
        model.layer[1].inplace = True
    elif how == "layout":
        model.layer[0].weight = nn.Parameter(model.layer[0].weight.detach().to_sparse())
    elif how == "config":
        model.config.num_hidden_layers = 1  # how many of its layers a decoder of the library runs
    else:
        model.config._attn_implementation = "its own"
    assert graph_of(model) != before
