"""From a comparison, as asked for, to the list of its runs, checked before anything runs.

Every method is let into a model without weights (on the meta device): targets that match nothing, a family without
known roles and all parameter counts are known before the first step.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import defaults, spec
from ..comparison.request import Comparison, check_request
from ..data import published
from ..errors import NotSupported, PeftbenchError, UsageError
from ..execution import batches, forgetting, prepare
from ..measure.environment import cuda_available, gpu_count, has_bfloat16
from ..measure.parameters import count_parameters
from ..models.load import head_for
from ..models.resolve import kind_of, resolve_model
from ..models.source import Source
from ..plugins import build, loader, registry
from ..progress import notify
from ..records.runs import LatencyGrid, Planned, Run
from . import feasibility

ORDER_OF_KINDS = ("tuning", "training", "profile", "latency")  # in the order in which they are done


def plan(asked: Comparison) -> list[Planned]:
    """Every run of the comparison, training first, in the order in which they are best watched.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    check_request(asked)
    loader.load_plugins(Path(p) for p in asked.plugins)
    published.use(asked.data_dir)
    device = resolve_device(asked.device)
    dtype = _dtype(asked.dtype, device)
    if device == "cuda" and asked.jobs > (gpus := gpu_count()):
        raise UsageError(
            f"--jobs {asked.jobs} gives each run a GPU of its own, and here are {gpus}; use --jobs {gpus}"
        )
    methods = _methods(asked)
    reference = (
        build.canonical(asked.baseline or defaults.REFERENCE) if asked.baseline or asked.baselines else None
    )
    cells = defaults.LATENCY_GRID[device] if asked.latency_grid is None else asked.latency_grid
    planned = []
    wanted = [name for text in asked.tasks for name in defaults.SUITES.get(text, (text,))]
    of_suites = {name for text in asked.tasks for name in defaults.SUITES.get(text, ())}
    tasks = dict(named_task(text) for text in dict.fromkeys(wanted))
    beside = {}
    if asked.forgetting is not None:
        name, of_it = named_task(asked.forgetting)
        forgetting.check_text(name)
        asked = dataclasses.replace(asked, forgetting=name)
        beside = {"forgetting": " ".join(of_it.values())}
    for text in tasks if any(asked.train_sizes) else ():
        _check_sizes(asked.train_sizes, text)
    revisions = {name: _trainable(name).revision for name in asked.models}
    for model, revision in revisions.items():
        for task_name, of_task in tasks.items():
            if task_name in of_suites and (reason := _refusal(model, task_name)) is not None:
                notify(f"{task_name} left out: {reason}")
                continue
            identity = {"model": revision, **of_task}
            here = asked
            if asked.forgetting is not None:
                objective = build.build_task(task_name).objective
                if task_name in of_suites and not forgetting.writes_on(objective, "causal"):
                    here = dataclasses.replace(asked, forgetting=None)
                else:
                    identity |= beside
            for method_name, baseline in methods.items():
                runs = _runs(here, model, task_name, method_name, baseline, device, dtype, identity, cells)
                planned += [dataclasses.replace(item, reference=method_name == reference) for item in runs]
    good = [p for p in planned if p.refusal is None and not p.baseline]
    if not planned:
        raise UsageError(f"none of the tasks {', '.join(tasks)} is for the models {', '.join(asked.models)}")
    if not good:
        raise UsageError(next(f"{p.run.method} on {p.run.model}: {p.refusal}" for p in planned if p.refusal))
    sizes = list(asked.train_sizes)
    return sorted(
        planned,
        key=lambda p: (
            p.run.model,
            p.run.task,
            ORDER_OF_KINDS.index(p.run.kind),
            sizes.index(p.run.budget.train_items) if p.run.budget.train_items in sizes else 0,
            p.run.seed,
        ),
    )


def latency_processes(
    run: Run, cells: tuple[tuple[int, int], ...], processes: int = defaults.LATENCY_PROCESSES
) -> list[Run]:
    """The runs that time a method's forward pass beside the others of a comparison: in float32."""
    grid = LatencyGrid(cells)
    return [
        dataclasses.replace(run, kind="latency", dtype="float32", grid=grid, seed=process)
        for process in range(processes)
    ]


def _trainable(name: str) -> Source:
    """A model that has weights to begin from.

    Raises:
        UsageError: it has none, or there is no such model.
    """
    source = resolve_model(name)
    if not source.weights:
        raise UsageError(
            f"model {name!r} is a config without weights, which serves for costs alone: use `peftbench latency`, or give "
            "a model with safetensors weights"
        )
    return source


def named_task(text: str) -> tuple[str, dict[str, str]]:
    """The canonical SPEC of a task, and what its results depend on."""
    task = build.build_task(text)
    objective = task.objective  # reads the user's own file, if any, before a model is downloaded for it
    if (reason := objective.unavailable()) is not None:
        raise UsageError(f"task {text!r}: {reason}")
    for notice in build.notices_of(task):
        notify(f"{text}: {notice}")
    name = spec.parse(text).name
    entry = registry.get("task", name)
    identity = {"task": f"{entry.declared} {entry.source_sha256()}", "data": task.fingerprint()}
    return spec.canonical(name, task), identity


def _check_sizes(sizes: Sequence[int | None], text: str) -> None:
    """Whether the training split has so many items, and something to learn in them.

    Raises:
        UsageError: it has fewer, or those that would train are all of one label.
    """
    task = build.build_task(text)
    train = task.splits()["train"]
    for size in (size for size in sizes if size is not None):
        if size > len(train):
            raise UsageError(
                f"--train-size {size:,}: the training split of {text} has {len(train):,} items; ask for fewer, or all"
            )
        chosen = train.select(batches.shuffled_items(len(train), size).tolist())
        if (reason := task.objective.uninformative(chosen)) is not None:
            raise UsageError(f"--train-size {size:,}: these items of {text} are {reason}; ask for more")


def _refusal(model: str, task: str) -> str | None:
    """Why a model can't serve a task at all, whatever the method."""
    try:
        head_for(resolve_model(model), build.build_task(task).objective)
    except NotSupported as error:
        return str(error)
    return None


def _runs(
    asked: Comparison,
    model: str,
    task: str,
    method: str,
    baseline: bool,
    device: str,
    dtype: str,
    identity: dict[str, Any],
    cells: tuple[tuple[int, int], ...],
) -> list[Planned]:
    """The runs of one method on one model and task."""
    declared = build.build_method(method)[1]
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
        budget=asked.resolve_budget(build.length_of(task), asked.train_sizes[0]),
        device=device,
        dtype=dtype,
        grid=None,
        plugins=tuple(str(Path(p).expanduser().resolve()) for p in asked.plugins),
        identity={**identity, "method": build.method_identity(method)},
        data_dir=asked.data_dir,
        attention=asked.attention,
        forgetting=asked.forgetting,
        checkpointing=asked.checkpointing,
    )
    if asked.forgetting is not None:
        forgetting.check_objective(build.build_task(task).objective, kind_of(resolve_model(model)))
    adapter, head, refusal, has_steps = counts_of(first)
    sized = [
        dataclasses.replace(first, budget=asked.resolve_budget(build.length_of(task), size))
        for size in dict.fromkeys(asked.train_sizes)
    ]
    runs = [
        dataclasses.replace(run, seed=seed)
        for run in sized
        for seed in range(seeds if refusal is None else 1)
    ]
    # What a pass and a step cost does not depend on how many items there are to train on.
    whole = dataclasses.replace(
        first.without_forgetting, budget=dataclasses.replace(first.budget, train_items=None)
    )
    if cells and refusal is None:
        runs += latency_processes(whole, cells)
    if refusal is None and has_steps and asked.profile:
        runs.append(dataclasses.replace(whole, kind="profile"))
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


def counts_of(run: Run) -> tuple[int | None, int | None, str | None, bool]:
    """Adapter and head parameters, why the method can't serve the model, and whether it trains in steps."""
    try:
        loaded = prepare.load_base(run, prepare.objective_of(run), "meta")
        try:
            prepared = prepare.inject(run, loaded, "meta")
        except NotSupported:
            raise
        except PeftbenchError as error:
            raise UsageError(f"{run.method}: {error}") from error
        except Exception as error:
            raise NotSupported(_raised(error, run.method)) from error
        has_steps = prepared.adaptation.fit is None
        if (
            reason := feasibility.why_not(
                prepared, has_steps and run.kind != "latency", run.device, run.forgetting is not None
            )
        ) is not None:
            raise NotSupported(reason)
    except NotSupported as error:
        return None, None, str(error), False
    counts = count_parameters(prepared.adaptation, prepared.head, prepared.base)
    return counts.adapter, counts.head, None, has_steps


def _methods(asked: Comparison) -> dict[str, bool]:
    """Canonical SPECs, those asked for first, each with whether it is a baseline that was added."""
    wanted: dict[str, bool] = {}
    for text in asked.methods:
        wanted[build.canonical(text)] = False
    if asked.baselines:
        for name in defaults.BASELINES:
            if name in registry.load("method"):
                wanted.setdefault(name, True)
    if asked.baseline is not None:  # what differences are taken to must be run
        wanted.setdefault(build.canonical(asked.baseline), True)
    return wanted


def resolve_device(asked: str) -> str:
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


def _raised(error: Exception, method: str) -> str:
    """What a method's inject raised, and where in its own file, if it was there."""
    own = registry.get("method", spec.parse(method).name).path.name
    frames = traceback.extract_tb(error.__traceback__)
    at = next((f for f in reversed(frames) if Path(f.filename).name == own), frames[-1])
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"its inject() raises {said} ({Path(at.filename).name}, line {at.lineno})"
