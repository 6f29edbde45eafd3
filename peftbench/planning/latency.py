"""The plans of measurements that stand alone: inference of several methods, and the inside of a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .. import defaults
from ..comparison.latency_request import LatencyRequest, check_latency_request
from ..errors import UsageError
from ..models.resolve import kind_of, resolve_model
from ..plugins import build, loader
from ..records import runs
from ..records.runs import Budget, LatencyGrid, Planned, Run
from .plan import counts_of, named_task, resolve_device

STEPS = 12  # of a profile that stands alone: the schedule is as long


def plan_latency(asked: LatencyRequest) -> list[Planned]:
    """The processes of `peftbench latency`, each with every method that can serve the model; refusals first.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    check_latency_request(asked)
    loader.load_plugins(Path(p) for p in asked.plugins)
    device = resolve_device(asked.device)
    if asked.execution == "cuda-graphs" and device != "cuda":
        raise UsageError("--execution cuda-graphs needs a CUDA GPU; use eager or compile")
    cells = defaults.LATENCY_GRID[device] if asked.cells is None else asked.cells
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
            device=device,
            dtype=asked.dtype,
            grid=LatencyGrid(
                cells, asked.rounds, asked.execution, new_tokens if generates else 0, asked.tasks
            ),
            plugins=tuple(str(Path(p).expanduser().resolve()) for p in asked.plugins),
            identity={"model": source.revision},
        )
        refused, good = [], []
        for method in methods:
            identity = {**run.identity, "method": build.method_identity(method)}
            one = dataclasses.replace(run, method=method, identity=identity)
            refusal = counts_of(one)[2]
            if refusal is None:
                good.append(one)
            else:
                refused.append(Planned(one, False, None, None, refusal))
        if not good:
            raise UsageError(f"{refused[0].run.method} on {model}: {refused[0].refusal}")
        together = dataclasses.replace(
            run,
            method=",".join(one.method for one in good),
            identity={**run.identity, "method": " ".join(one.identity["method"] for one in good)},
        )
        planned += refused
        for process in range(asked.processes):
            planned.append(Planned(dataclasses.replace(together, seed=process), False, None, None, None))
    return planned


def plan_profile(
    method: str,
    model: str,
    task: str,
    batch_size: int,
    max_length: int,
    device: str = "auto",
    dtype: str = "float32",
) -> Planned:
    """A look inside a training step, alone: also of a model that is a config without weights.

    Raises:
        UsageError: something asked for does not exist.
    """
    name, of_task = named_task(task)
    method = build.canonical(method)
    source = resolve_model(model)
    run = Run(
        kind="profile",
        method=method,
        model=model,
        task=name,
        seed=0,
        learning_rate=0.0,
        head_learning_rate=0.0,
        weight_decay=0.0,
        budget=Budget("custom", STEPS, None, batch_size, 1, max_length),
        device=resolve_device(device),
        dtype=dtype,
        grid=None,
        plugins=(),
        identity={"model": source.revision, **of_task, "method": build.method_identity(method)},
    )
    adapter, head, refusal, _ = counts_of(run)
    return Planned(run, False, adapter, head, refusal)
