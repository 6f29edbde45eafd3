"""One process of an inference measurement: every method of a run on trees of its own over one shared base.

The methods are untrained, but their own weights are moved off where they start, so that an update that is skipped while it is zero
costs what it costs once trained. Weights and compute are in the run's
data type, without autocast; merged layers are folded in float32 and cast once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .. import progress, spec
from ..errors import NotSupported
from ..measure import nvml
from ..measure.bystanders import Bystanders
from ..measure.clock import taken_by
from ..measure.generation import measure_generation
from ..measure.latency import (
    forward_of,
    into_own_memory,
    measure_latency,
    over_shared_weights,
    pass_inputs,
    turn_sets,
    variants_of,
)
from ..measure.parameters import count
from ..measure.serving import measure_serving
from ..models.adaptation import Adaptation
from ..models.load import Loaded
from ..models.precision import DTYPES
from ..records.runs import BASE, LatencyGrid, Run, merged_name
from .out_of_memory import is_out_of_memory
from .prepare import inject, load_base, objective_of

TRAINED_SPREAD = 0.02  # of what training adds to a weight, in order of size
SHORT_CELL = 1, 8  # batch and length of a pass that tells whether a method runs at all


def measure_inference(run: Run) -> dict[str, Any]:
    """The sections of the record of a latency run.

    Raises:
        NotSupported: a method can't serve the model, or the execution is not possible here.
    """
    assert run.grid is not None
    grid = run.grid
    progress.phase("load")
    loaded = load_base(run, objective_of(run), run.device)
    if run.device == "cpu":
        into_own_memory(loaded.model)
    methods = [str(one) for one in spec.parse_list(run.method)]
    adaptations, left_out = _let_in(run, methods, loaded)
    device = torch.device(run.device)
    loaded.model.to(device)
    bystanders, before, begun_s = Bystanders(device), nvml.state_now(device), time.perf_counter()
    sections: dict[str, Any] = {"latency": [], "generation": []}
    sets = turn_sets(loaded.model, adaptations)
    for number, methods_in_turn in enumerate(sets):
        chosen = {method: adaptations[method] for method in methods_in_turn}
        variants = variants_of(loaded.model, chosen, with_copy=number == 0)
        for model in variants.values():
            model.eval().to(DTYPES[run.dtype])
        if len(methods) > 1:
            left_out |= _take_out_failing(variants, chosen, device)
        progress.phase("latency")
        budget_s = None if grid.budget_s is None else grid.budget_s / len(sets)
        sections["latency"] += measure_latency(
            variants, grid.cells, device, grid.rounds, grid.execution, budget_s, progress.step
        )
        if grid.new_tokens:
            progress.phase("generate")
            sections["generation"] += measure_generation(
                variants, grid.cells, device, grid.rounds, grid.new_tokens, grid.execution, progress.step
            )
        del variants, model  # its merged layers go before others come
    sections = {
        name: [dataclasses.asdict(cell) for cell in cells] or None for name, cells in sections.items()
    }
    timed_s = time.perf_counter() - begun_s
    if grid.tasks:
        progress.phase("serve")
        good = [method for method in methods if method not in left_out]
        sections["serving"] = _serving(run, grid, good, loaded, device)
    return {
        **sections,
        "meters": {
            "timer": taken_by(device),
            "timed_s": timed_s,
            "left_out": left_out or None,
            "adapter_parameters": {m: count(a.params.values()) for m, a in adaptations.items()},
            "base_parameters": count(loaded.model.parameters()),
            "gpu_before": before,
            "gpu_after": nvml.state_now(device),
            **dataclasses.asdict(bystanders.seen()),
        },
    }


def _let_in(run: Run, methods: Sequence[str], loaded: Loaded) -> tuple[dict[str, Adaptation], dict[str, str]]:
    """Each method in a tree of its own, and why those that raise are left out: the others are measured all the same."""
    found, left_out = {}, {}
    for method in methods:
        try:
            found[method] = moved(run, method, loaded)
        except Exception as error:  # a plugin's inject may raise anything
            if len(methods) == 1 or is_out_of_memory(error):
                raise
            left_out[method] = _said(error)
    return found, left_out


def _take_out_failing(
    variants: dict[str, nn.Module], methods: Iterable[str], device: torch.device
) -> dict[str, str]:
    """Take out the methods of which a forward pass raises, and return why."""
    inputs = pass_inputs(variants[BASE], *SHORT_CELL, device)
    left_out = {}
    for method in methods:
        names = [name for name in (method, merged_name(method)) if name in variants]
        try:
            with torch.inference_mode():
                for name in names:
                    forward_of(variants[name], inputs)()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            left_out[method] = _said(error)
            for name in names:
                del variants[name]
    return left_out


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def moved(run: Run, method: str, loaded: Loaded) -> Adaptation:
    """A method in a tree of its own, its own weights as far from their start as training brings them, settled."""
    tree = over_shared_weights(loaded.model)
    head = {name: p for name, p in tree.named_parameters() if name in loaded.head}
    one = dataclasses.replace(run, method=method)
    prepared = inject(one, dataclasses.replace(loaded, model=tree, head=head), run.device)
    shared = {id(p) for p in loaded.model.parameters()}
    own = {n: p for n, p in prepared.adaptation.params.items() if id(p) not in shared}
    move(own.values(), TRAINED_SPREAD, run.seed)
    if prepared.adaptation.settle is not None:
        prepared.adaptation.settle()
    return prepared.adaptation


def _serving(
    run: Run, grid: LatencyGrid, methods: list[str], loaded: Loaded, device: torch.device
) -> list[dict[str, Any]]:
    """Several adapters of each method on one base: switched between, and mixed in one batch."""
    found: list[dict[str, Any]] = []
    for method in methods:
        if not moved(run, method, loaded).swaps:
            said = "it puts no layers of its own into the model, which are what is switched and mixed here"
            found.append({"method": method, "refusal": said})
            continue
        tasks: list[Adaptation] = []
        for task in range(grid.tasks):
            adaptation = moved(dataclasses.replace(run, seed=run.seed + 1000 * (task + 1)), method, loaded)
            _randomise(adaptation.params, task)
            adaptation.model.eval().to(DTYPES[run.dtype])
            tasks.append(adaptation)
        try:
            cells = measure_serving(loaded.model, tasks, grid.cells, device, grid.rounds)
        except NotSupported as error:
            found.append({"method": method, "refusal": str(error)})
            continue
        found.append({"method": method, "refusal": None, **dataclasses.asdict(cells)})
    return found


@torch.no_grad()
def move(parameters: Iterable[nn.Parameter], spread: float, seed: int) -> None:
    """Add noise of that spread to parameters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator) * spread
        parameter.add_(noise.to(parameter.device, parameter.dtype))


def _randomise(params: Mapping[str, nn.Parameter], task: int) -> None:
    """As if each task had trained: an adapter that is still zero would switch to the same weights."""
    generator = torch.Generator().manual_seed(task)
    for parameter in params.values():
        noise = torch.randn(parameter.shape, generator=generator) * 0.02
        parameter.data = noise.to(parameter.device, parameter.dtype)
