"""One process of an inference measurement: every method of a run on trees of its own over one shared base.

The methods are untrained, but their own weights are moved off where they start, so that an update that is skipped while it is zero
costs what it costs once trained. Weights and compute are in the run's
data type, without autocast; merged layers are folded in float32 and cast once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .. import progress, spec
from ..errors import NotSupported
from ..measure import nvml
from ..measure.bystanders import Bystanders
from ..measure.clock import taken_by
from ..measure.generation import measure_generation
from ..measure.latency import into_own_memory, measure_latency, over_shared_weights, variants_of
from ..measure.parameters import count
from ..measure.serving import measure_serving
from ..models.adaptation import Adaptation
from ..models.load import Loaded
from ..models.precision import DTYPES
from ..records.runs import LatencyGrid, Run
from .prepare import inject, load_base, objective_of

TRAINED_SPREAD = 0.02  # of what training adds to a weight, in order of size


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
    adaptations = {}
    for method in methods:
        adaptations[method], claims = moved(run, method, loaded)
    device = torch.device(run.device)
    loaded.model.to(device)
    variants = variants_of(loaded.model, adaptations)
    for model in variants.values():
        model.eval().to(DTYPES[run.dtype])
    progress.phase("latency")
    bystanders, before = Bystanders(device), nvml.state_now(device)
    cells = measure_latency(variants, grid.cells, device, grid.rounds, grid.execution, watch=progress.step)
    sections: dict[str, Any] = {"latency": [dataclasses.asdict(cell) for cell in cells]}
    if grid.new_tokens:
        progress.phase("generate")
        generated = measure_generation(
            variants, grid.cells, device, grid.rounds, grid.new_tokens, progress.step
        )
        sections["generation"] = [dataclasses.asdict(cell) for cell in generated]
    if grid.tasks:
        progress.phase("serve")
        sections["serving"] = _serving(run, grid, methods, loaded, device)
    return {
        **sections,
        "claims": dataclasses.asdict(claims),
        "meters": {
            "timer": taken_by(device),
            "adapter_parameters": {m: count(a.params.values()) for m, a in adaptations.items()},
            "base_parameters": count(loaded.model.parameters()),
            "gpu_before": before,
            "gpu_after": nvml.state_now(device),
            **dataclasses.asdict(bystanders.seen()),
        },
    }


def moved(run: Run, method: str, loaded: Loaded) -> tuple[Adaptation, Any]:
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
    return prepared.adaptation, prepared.claims


def _serving(
    run: Run, grid: LatencyGrid, methods: list[str], loaded: Loaded, device: torch.device
) -> list[dict[str, Any]]:
    """Several adapters of each method on one base: switched between, and mixed in one batch."""
    found: list[dict[str, Any]] = []
    for method in methods:
        if not moved(run, method, loaded)[0].swaps:  # it trains the base itself, which all share
            continue
        tasks: list[Adaptation] = []
        for task in range(grid.tasks):
            adaptation, _ = moved(dataclasses.replace(run, seed=run.seed + 1000 * (task + 1)), method, loaded)
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
