"""The plans of measurements that stand alone: inference of several methods, and the inside of a step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from .. import defaults
from ..comparison.latency_request import LatencyRequest, check_latency_request
from ..data.hub import pinned
from ..engine.protocol import Capacity, Device
from ..errors import UsageError
from ..models.resolve import kind_of, resolve_model
from ..plugins import build, loader
from ..records import runs
from ..records.joint import joined
from ..records.runs import Budget, LatencyGrid, Planned, Run, resolved_plugins
from .counts import Bases, counts_of
from .devices import method_on, resolve_device
from .places import placed, spelled
from .plan import named_task

STEPS = 4  # of a look at costs that stands alone


def plan_latency(asked: LatencyRequest, capacity: Capacity) -> list[Planned]:
    """The processes of `peftbench latency`, each with every method that can serve the model; refusals first.

    Args:
        capacity: of the engine that will do them.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    check_latency_request(asked)
    loader.load_plugins(Path(p) for p in asked.plugins)
    with pinned():
        return _processes(asked, capacity)


def _processes(asked: LatencyRequest, capacity: Capacity) -> list[Planned]:
    device = resolve_device(asked.device, capacity)
    if asked.execution == "cuda-graphs" and device.kind != "cuda":
        raise UsageError("--execution cuda-graphs needs a CUDA GPU; use eager or compile")
    cells = defaults.LATENCY_GRID[device.kind] if asked.cells is None else asked.cells
    methods = list(dict.fromkeys(method_on(text, device) for text in asked.methods))
    planned: list[Planned] = []
    for model in dict.fromkeys(map(spelled, asked.models)):
        run = Run(
            kind="latency",
            method="",
            model=model,
            task="",
            seed=0,
            learning_rate=0.0,
            head_learning_rate=0.0,
            weight_decay=0.0,
            budget=runs.NO_BUDGET,
            device=device.kind,
            dtype=asked.dtype,
            weights=asked.dtype,
            grid=LatencyGrid(cells, asked.rounds, asked.execution, 0, asked.tasks),
            plugins=resolved_plugins(asked.plugins),
            identity={},
        )
        try:
            planned += _of_model(asked, run, methods, device)
        except UsageError as error:
            if len(asked.models) == 1:
                raise
            planned += [_refused(run, method, "", str(error)) for method in methods]
    if all(item.refusal is not None for item in planned):
        raise UsageError(f"{planned[0].run.method} on {planned[0].run.model}: {planned[0].refusal}")
    return placed(planned)


def _of_model(asked: LatencyRequest, run: Run, methods: list[str], device: Device) -> list[Planned]:
    """The methods that can't serve a model, then its processes."""
    source = resolve_model(run.model)
    generates = kind_of(source) == "causal"
    if asked.new_tokens and not generates:
        raise UsageError(f"--new-tokens: {run.model!r} is not a generative model; leave the option out")
    new_tokens = defaults.NEW_TOKENS if asked.new_tokens is None else asked.new_tokens
    assert run.grid is not None
    grid = dataclasses.replace(run.grid, new_tokens=new_tokens if generates else 0)
    run = dataclasses.replace(run, grid=grid)
    refused, good, bases = [], [], Bases()
    for method in methods:
        identity = build.run_identity(method, source.revision, {})
        commits = build.commits_of(method, ())
        one = dataclasses.replace(run, method=method, identity=identity, commits=commits)
        if (refusal := counts_of(one, device, bases).refusal) is None:
            good.append(one)
        else:
            refused.append(_refused(run, method, source.revision, refusal))
    if not good:
        return refused
    processes = [dataclasses.replace(joined(good), seed=process) for process in range(asked.processes)]
    return [*refused, *(Planned(process, False, None, None, None) for process in processes)]


def _refused(run: Run, method: str, revision: str, reason: str) -> Planned:
    """A method that can't be measured on a model."""
    identity = build.run_identity(method, revision, {})
    return Planned(dataclasses.replace(run, method=method, identity=identity), False, None, None, reason)


@dataclass(frozen=True)
class Step:
    """A training step to look into."""

    model: str
    task: str  # SPEC
    batch_size: int
    max_length: int  # tokens
    dtype: str = "float32"  # of the compute


def plan_profile(method: str, step: Step, capacity: Capacity) -> Planned:
    """A look inside a training step, alone: also of a model that is a config without weights.

    Raises:
        UsageError: something asked for does not exist.
    """
    name, of_task = named_task(step.task)
    source, device = resolve_model(step.model), resolve_device("auto", capacity)
    method = method_on(method, device)
    run = Run(
        kind="profile",
        method=method,
        model=step.model,
        task=name,
        seed=0,
        learning_rate=0.0,
        head_learning_rate=0.0,
        weight_decay=0.0,
        budget=Budget("custom", STEPS, None, step.batch_size, 1, step.max_length),
        device=device.kind,
        dtype=step.dtype,
        grid=None,
        plugins=(),
        identity=build.run_identity(method, source.revision, of_task),
        commits=build.commits_of(method, [name]),
    )
    counts = counts_of(run, device, Bases())
    return Planned(run, False, counts.adapter, counts.head, counts.refusal)
