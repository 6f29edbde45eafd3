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

from . import data, defaults, fits, forgetting, latency_asked, models, prepare, published, registry, spec
from .comparison import Comparison, check
from .completion import Completion
from .environment import cuda_available, gpu_count, has_bfloat16
from .errors import NotSupported, PeftbenchError, UsageError
from .latency_asked import LatencyAsked
from .measure.parameters import count_parameters
from .progress import notify
from .runs import Budget, LatencyGrid, Planned, Run
from .starters import Source
from .text_metrics import TEXT_METRICS

STEPS = 12  # of a profile that stands alone: the schedule is as long
KINDS = ("tuning", "training", "profile", "latency")  # in the order in which they are done


def plan(asked: Comparison) -> list[Planned]:
    """Every run of the comparison, training first, in the order in which they are best watched.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    check(asked)
    registry.load_plugins(Path(p) for p in asked.plugins)
    published.use(asked.data_dir)
    device = _device(asked.device)
    dtype = _dtype(asked.dtype, device)
    if device == "cuda" and asked.jobs > (gpus := gpu_count()):
        raise UsageError(
            f"--jobs {asked.jobs} gives each run a GPU of its own, and here are {gpus}; use --jobs {gpus}"
        )
    methods = _methods(asked)
    reference = (
        prepare.canonical(asked.baseline or defaults.REFERENCE) if asked.baseline or asked.baselines else None
    )
    cells = defaults.LATENCY_GRID[device] if asked.latency_grid is None else asked.latency_grid
    planned = []
    wanted = [name for text in asked.tasks for name in defaults.SUITES.get(text, (text,))]
    of_suites = {name for text in asked.tasks for name in defaults.SUITES.get(text, ())}
    tasks = dict(_task(text) for text in dict.fromkeys(wanted))
    beside = {}
    if asked.forgetting is not None:
        name, of_it = _task(asked.forgetting)
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
                if task_name in of_suites and prepare.build_task(task_name).objective.kind != "generation":
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
            KINDS.index(p.run.kind),
            sizes.index(p.run.budget.train_items) if p.run.budget.train_items in sizes else 0,
            p.run.seed,
        ),
    )


def plan_latency(asked: LatencyAsked) -> list[Planned]:
    """The processes of `peftbench latency`, each with every method that can serve the model; refusals first.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run here.
    """
    latency_asked.check(asked)
    registry.load_plugins(Path(p) for p in asked.plugins)
    device = _device(asked.device)
    if asked.execution == "cuda-graphs" and device != "cuda":
        raise UsageError("--execution cuda-graphs needs a CUDA GPU; use eager or compile")
    cells = defaults.LATENCY_GRID[device] if asked.cells is None else asked.cells
    methods = list(dict.fromkeys(prepare.canonical(text) for text in asked.methods))
    planned = []
    for model in asked.models:
        source = models.resolve(model)
        generates = models.kind_of(source) == "causal"
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
            budget=defaults.NO_BUDGET,
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
            identity = {**run.identity, "method": prepare.method_identity(method)}
            one = dataclasses.replace(run, method=method, identity=identity)
            refusal = _counts(one)[2]
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


def latency_processes(
    run: Run, cells: tuple[tuple[int, int], ...], processes: int = defaults.LATENCY_PROCESSES
) -> list[Run]:
    """The runs that time a method's forward pass beside the others of a comparison: in float32."""
    grid = LatencyGrid(cells)
    return [
        dataclasses.replace(run, kind="latency", dtype="float32", grid=grid, seed=process)
        for process in range(processes)
    ]


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
    name, of_task = _task(task)
    method = prepare.canonical(method)
    source = models.resolve(model)
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
        device=_device(device),
        dtype=dtype,
        grid=None,
        plugins=(),
        identity={"model": source.revision, **of_task, "method": prepare.method_identity(method)},
    )
    adapter, head, refusal, _ = _counts(run)
    return Planned(run, False, adapter, head, refusal)


def _trainable(name: str) -> Source:
    """A model that has weights to begin from.

    Raises:
        UsageError: it has none, or there is no such model.
    """
    source = models.resolve(name)
    if not source.weights:
        raise UsageError(
            f"model {name!r} is a config without weights, which serves for costs alone: use `peftbench latency`, or give "
            "a model with safetensors weights"
        )
    return source


def _task(text: str) -> tuple[str, dict[str, str]]:
    """The canonical SPEC of a task, and what its results depend on."""
    task = prepare.build_task(text)
    objective = task.objective  # reads the user's own file, if any, before a model is downloaded for it
    for metric in objective.metrics if isinstance(objective, Completion) else ():
        if (reason := TEXT_METRICS[metric].unavailable()) is not None:
            raise UsageError(f"task {text!r}: metric {metric} can't be had here: {reason}")
    for notice in prepare.notices_of(task):
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
    task = prepare.build_task(text)
    train = task.splits()["train"]
    for size in (size for size in sizes if size is not None):
        if size > len(train):
            raise UsageError(
                f"--train-size {size:,}: the training split of {text} has {len(train):,} items; ask for fewer, or all"
            )
        if task.objective.kind == "classification":
            chosen = data.shuffled_items(len(train), size)
            if len(set(train.select(chosen.tolist())["label"])) < 2:
                raise UsageError(
                    f"--train-size {size:,}: these items of {text} are all of one label; ask for more"
                )


def _refusal(model: str, task: str) -> str | None:
    """Why a model can't serve a task at all, whatever the method."""
    try:
        models.head_for(models.resolve(model), prepare.build_task(task).objective)
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
    declared = prepare.build_method(method)[1]
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
        budget=asked.resolve_budget(prepare.length_of(task), asked.train_sizes[0]),
        device=device,
        dtype=dtype,
        grid=None,
        plugins=tuple(str(Path(p).expanduser().resolve()) for p in asked.plugins),
        identity={**identity, "method": prepare.method_identity(method)},
        data_dir=asked.data_dir,
        attention=asked.attention,
        forgetting=asked.forgetting,
        checkpointing=asked.checkpointing,
    )
    if asked.forgetting is not None:
        forgetting.check(
            prepare.build_task(task).objective, models.kind_of(models.resolve(model)) == "causal"
        )
    adapter, head, refusal, has_steps = _counts(first)
    sized = [
        dataclasses.replace(first, budget=asked.resolve_budget(prepare.length_of(task), size))
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


def _counts(run: Run) -> tuple[int | None, int | None, str | None, bool]:
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
            reason := fits.why_not(
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
        wanted[prepare.canonical(text)] = False
    if asked.baselines:
        for name in defaults.BASELINES:
            if name in registry.load("method"):
                wanted.setdefault(name, True)
    if asked.baseline is not None:  # what differences are taken to must be run
        wanted.setdefault(prepare.canonical(asked.baseline), True)
    return wanted


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


def _raised(error: Exception, method: str) -> str:
    """What a method's inject raised, and where in its own file, if it was there."""
    own = registry.get("method", spec.parse(method).name).path.name
    frames = traceback.extract_tb(error.__traceback__)
    at = next((f for f in reversed(frames) if Path(f.filename).name == own), frames[-1])
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"its inject() raises {said} ({Path(at.filename).name}, line {at.lineno})"
