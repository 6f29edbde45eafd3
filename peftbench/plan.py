"""From a comparison, as asked for, to the list of its runs, checked before anything runs.

Every method is let into a model without weights (on the meta device): targets that match nothing, a family without
known roles and all parameter counts are known before the first step.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from . import defaults, execute, models, registry, spec
from .comparison import Comparison, check
from .declare import MethodDeclaration
from .environment import cuda_available, gpu_count, has_bfloat16
from .errors import NotSupported, UsageError
from .measure.parameters import count_parameters
from .runs import Planned, Run


def plan(asked: Comparison) -> list[Planned]:
    """Every run of the comparison, training first, in the order in which they are best watched.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    check(asked)
    registry.load_plugins(Path(p) for p in asked.plugins)
    device = _device(asked.device)
    dtype = _dtype(asked.dtype, device)
    if device == "cuda" and asked.jobs > (gpus := gpu_count()):
        raise UsageError(
            f"--jobs {asked.jobs} gives each run a GPU of its own, and here are {gpus}; use --jobs {gpus}"
        )
    methods = _methods(asked)
    reference = canonical(asked.baseline or defaults.REFERENCE) if asked.baseline or asked.baselines else None
    grid = defaults.LATENCY_GRID[device] if asked.latency_grid is None else asked.latency_grid
    planned = []
    tasks = dict(_task(text) for text in asked.tasks)
    revisions = {name: models.resolve(name).revision for name in asked.models}
    for model, revision in revisions.items():
        for task_name, of_task in tasks.items():
            identity = {"model": revision, **of_task}
            for method_name, baseline in methods.items():
                runs = _runs(asked, model, task_name, method_name, baseline, device, dtype, identity, grid)
                planned += [dataclasses.replace(item, reference=method_name == reference) for item in runs]
    good = [p for p in planned if p.refusal is None and not p.baseline]
    if not good:
        raise UsageError(next(f"{p.run.method} on {p.run.model}: {p.refusal}" for p in planned if p.refusal))
    return sorted(planned, key=lambda p: (p.run.model, p.run.task, p.run.kind == "latency", p.run.seed))


def _task(text: str) -> tuple[str, dict[str, str]]:
    """The canonical SPEC of a task, and what its results depend on."""
    task = execute.build_task(text)
    assert (
        task.objective.outputs > 0
    )  # reads the user's own file, if any, before a model is downloaded for it
    name = spec.parse(text).name
    entry = registry.get("task", name)
    identity = {"task": f"{entry.declared} {entry.source_sha256()}", "data": task.fingerprint()}
    return spec.canonical(name, task), identity


def _runs(
    asked: Comparison,
    model: str,
    task: str,
    method: str,
    baseline: bool,
    device: str,
    dtype: str,
    identity: dict[str, Any],
    grid: tuple[tuple[int, int], ...],
) -> list[Planned]:
    """The runs of one method on one model and task."""
    entry = registry.get("method", spec.parse(method).name)
    declared: MethodDeclaration = entry.declared
    seeds = 1 if declared.claims.seedless else asked.first_seeds
    rate = declared.preset.learning_rate
    if asked.learning_rate is not None and not declared.claims.seedless and not baseline:
        rate = asked.learning_rate
    first = Run(
        kind="training",
        method=method,
        model=model,
        task=task,
        seed=0,
        learning_rate=rate,
        head_learning_rate=defaults.HEAD_LEARNING_RATE,
        weight_decay=declared.preset.weight_decay,
        budget=asked.resolve_budget(),
        device=device,
        dtype=dtype,
        grid=grid,
        plugins=tuple(str(Path(p).expanduser().resolve()) for p in asked.plugins),
        identity={**identity, "method": entry.source_sha256()},
    )
    adapter, head, refusal = _counts(first)
    runs = [dataclasses.replace(first, seed=seed) for seed in range(seeds if refusal is None else 1)]
    if grid and refusal is None:
        runs.append(dataclasses.replace(first, kind="latency", dtype="float32"))
    seeded = not declared.claims.seedless and refusal is None
    return [
        Planned(
            run,
            baseline,
            adapter,
            head,
            refusal,
            seeded,
            tunable=seeded and run.kind == "training" and rate > 0,
        )
        for run in runs
    ]


def _counts(run: Run) -> tuple[int | None, int | None, str | None]:
    """Adapter and head parameters, or why the method can't serve the model."""
    try:
        prepared = execute.prepare(run, execute.build_task(run.task).objective, "meta")
    except NotSupported as error:
        return None, None, str(error)
    counts = count_parameters(prepared.adaptation, prepared.head, prepared.base)
    return counts.adapter, counts.head, None


def _methods(asked: Comparison) -> dict[str, bool]:
    """Canonical SPECs, those asked for first, each with whether it is a baseline that was added."""
    wanted: dict[str, bool] = {}
    for text in asked.methods:
        wanted[canonical(text)] = False
    if asked.baselines:
        for name in defaults.BASELINES:
            if name in registry.load("method"):
                wanted.setdefault(name, True)
    if asked.baseline is not None:  # what differences are taken to must be run
        wanted.setdefault(canonical(asked.baseline), True)
    return wanted


def canonical(text: str) -> str:
    """A method's SPEC as records spell it: fields in order, defaults left out."""
    instance, _ = execute.build_method(text)
    return spec.canonical(spec.parse(text).name, instance)


def _device(asked: str) -> str:
    if asked == "cuda" and not cuda_available():
        raise UsageError(
            "--device cuda: torch sees no CUDA GPU here; use --device cpu, or see `peftbench doctor`"
        )
    if asked == "auto":
        return "cuda" if cuda_available() else "cpu"
    return asked


def _dtype(asked: str, device: str) -> str:
    if asked == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return asked
