"""The plans of measurements that stand alone: inference of several methods, and the inside of a step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from .. import defaults
from ..comparison.latency_request import LatencyRequest, check_latency_request
from ..data.hub import pinned
from ..engine.protocol import Capacity
from ..errors import UsageError
from ..models.resolve import kind_of, resolve_model
from ..plugins import build, loader
from ..records import runs
from ..records.runs import Budget, LatencyGrid, Planned, Run, resolved_plugins
from .counts import counts_of
from .devices import resolve_device
from .plan import named_task

STEPS = 12  # of a profile that stands alone: the schedule is as long


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
    methods = list(dict.fromkeys(build.canonical(text) for text in asked.methods))
    planned = []
    for model in asked.models:
        source = resolve_model(model)
        generates = kind_of(source) == "causal"
        if asked.new_tokens and not generates:
            raise UsageError(f"--new-tokens: {model!r} is not a generative model; leave the option out")
        new_tokens = defaults.NEW_TOKENS if asked.new_tokens is None else asked.new_tokens
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
            grid=LatencyGrid(
                cells, asked.rounds, asked.execution, new_tokens if generates else 0, asked.tasks
            ),
            plugins=resolved_plugins(asked.plugins),
            identity={},
        )
        refused, good = [], []
        for method in methods:
            identity = build.run_identity(method, source.revision, {})
            commits = build.commits_of(method, ())
            one = dataclasses.replace(run, method=method, identity=identity, commits=commits)
            refusal = counts_of(one, device).refusal
            if refusal is None:
                good.append(one)
            else:
                refused.append(Planned(one, False, None, None, refusal))
        if not good:
            raise UsageError(f"{refused[0].run.method} on {model}: {refused[0].refusal}")
        together = dataclasses.replace(
            run,
            method=",".join(one.method for one in good),
            identity={**good[0].identity, "method": " ".join(one.identity["method"] for one in good)},
            commits={name: commit for one in good for name, commit in one.commits.items()},
        )
        planned += refused
        for process in range(asked.processes):
            planned.append(Planned(dataclasses.replace(together, seed=process), False, None, None, None))
    return planned


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
    method = build.canonical(method)
    source, device = resolve_model(step.model), resolve_device("auto", capacity)
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
    counts = counts_of(run, device)
    return Planned(run, False, counts.adapter, counts.head, counts.refusal)
