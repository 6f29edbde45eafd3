"""From a comparison, as asked for, to the list of its runs, checked before anything runs.

Every method is let into a model without weights (on the meta device): targets that match nothing, a family without
known roles and all parameter counts are known before the first step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from .. import defaults, spec
from ..comparison.request import Comparison, check_request
from ..data import published
from ..data.hub import pinned
from ..engine.protocol import Capacity, Device
from ..errors import ModelError, NotSupported, UsageError
from ..execution import batches, forgetting, optimizers
from ..models.load import decoder_start, head_for, tokenizer_for
from ..models.resolve import resolve_model
from ..models.source import Source
from ..plugins import build, loader, registry
from ..progress import notify
from ..records.runs import Planned
from . import retained
from .combination import Combination, runs_of, sized_for, timed_together
from .counts import Bases
from .devices import check_ranks, method_on, resolve_device, resolve_dtype, resolve_weights
from .excluded import marked
from .matched import Sized, check_sizes
from .places import placed, spelled

ORDER_OF_KINDS = ("tuning", "profile", "training", "latency")  # in the order in which they are done


def plan(asked: Comparison, capacity: Capacity) -> list[Planned]:
    """Every run of the comparison, training first, in the order in which they are best watched.

    Args:
        capacity: of the engine that will do them.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run there.
    """
    check_request(asked)
    asked = dataclasses.replace(asked, models=tuple(dict.fromkeys(map(spelled, asked.models))))
    loader.load_plugins(Path(p) for p in asked.plugins)
    with published.looked_for_in(asked.data_dir), pinned():
        device = resolve_device(asked.device, capacity)
        check_ranks(asked.gpus_per_run, device, capacity)
        planned = _all_runs(asked, device, capacity.cores)
    if all(p.refusal is not None or p.baseline for p in planned):
        raise UsageError(next(f"{p.run.method} on {p.run.model}: {p.refusal}" for p in planned if p.refusal))
    if asked.tune and not any(p.tunable for p in planned):
        raise UsageError("--tune searches learning rates, and no method here has one; leave it out")
    if asked.learning_rate is not None and not any(p.tunable for p in planned if not p.baseline):
        raise UsageError(
            "--lr is of the methods in --methods, and none of them has a learning rate; leave it out"
        )
    sizes = list(asked.train_sizes)
    return sorted(
        placed(planned),
        key=lambda p: (
            p.run.model,
            p.run.task,
            ORDER_OF_KINDS.index(p.run.kind),
            sizes.index(p.run.budget.train_items) if p.run.budget.train_items in sizes else 0,
            p.run.seed,
        ),
    )


def _all_runs(asked: Comparison, device: Device, cores: int) -> list[Planned]:
    """The runs of every method on each model and task that go together."""
    dtype = resolve_dtype(asked.dtype, device, asked.weights)
    if (reason := optimizers.why_not(asked.optimizer, device.kind)) is not None:
        raise UsageError(reason)
    if asked.threads is not None and device.kind != "cpu":
        raise UsageError(
            f"--threads is of runs on a CPU, and these would be on {device.kind}; leave it out, or add --device cpu"
        )
    methods = _methods(asked, device)
    reference = (
        build.canonical(asked.baseline or defaults.REFERENCE, device.kind)
        if asked.baseline or asked.baselines
        else None
    )
    if asked.match is not None:
        fixed = (*defaults.BASELINES, reference)
        check_sizes(text for text in asked.methods if method_on(text, device) not in fixed)
    planned, bases = [], Bases()
    wanted = [name for text in asked.tasks for name in defaults.SUITES.get(text, (text,))]
    of_suites = {name for text in asked.tasks for name in defaults.SUITES.get(text, ())}
    tasks = dict(named_task(text) for text in dict.fromkeys(wanted))
    beside: dict[str, str] = {}
    if asked.forgetting is not None:
        name, of_it = named_task(asked.forgetting)
        forgetting.check_text(name)
        asked = dataclasses.replace(asked, forgetting=name)
        beside = {"forgetting": " ".join(of_it.values())}
    if asked.retain:
        names, sources = retained.ordered(dict(map(named_task, asked.retain)), tasks)
        asked = dataclasses.replace(asked, retain=names)
        beside["retain"] = sources
    for text in tasks if any(asked.train_sizes) else ():
        _check_sizes(asked.train_sizes, text)
    models = {name: _looked_up(name, len(asked.models) == 1) for name in asked.models}
    for model, (revision, broken) in models.items():
        for task_name, of_task in tasks.items():
            if broken is None:
                _check_length(model, task_name, asked)
            if (
                broken is None
                and task_name in of_suites
                and (reason := _refusal(model, task_name)) is not None
            ):
                notify(f"{task_name} left out: {reason}")
                continue
            here, depends_on = asked, of_task
            if beside:
                objective = build.build_task(task_name).objective
                if task_name in of_suites and not forgetting.writes_on(objective, "causal"):
                    here = dataclasses.replace(asked, forgetting=None, retain=())
                else:
                    depends_on = of_task | beside
            source = None if broken else resolve_model(model)
            if source is not None:
                _check_rows(model, source, task_name, of_task, asked)
                retained.check(here.retain, model, source, task_name)
            weights = resolve_weights(asked.weights, device, dtype, source)
            cell = Combination(
                here, model, task_name, device, cores, dtype, weights, revision, depends_on, broken
            )
            of_cell: dict[str, Planned] = {}
            for method, baseline in methods.items():
                keeps = asked.match is None or baseline or method in (*defaults.BASELINES, reference)
                fit = Sized(method) if keeps else sized_for(cell, method, bases)
                own = dataclasses.replace(here, match=None) if keeps else here
                of_method = dataclasses.replace(cell, asked=own, refusal=fit.refusal or cell.refusal)
                runs = runs_of(of_method, fit.method, baseline, bases)
                for item in marked(runs, asked.excluded):
                    # A method that was sized may come to be another one of these.
                    of_cell.setdefault(item.run.key, dataclasses.replace(item, reference=method == reference))
            planned += timed_together([*of_cell.values()])
    if not planned:
        raise UsageError(
            f"none of the models {', '.join(asked.models)} can do any of the tasks {', '.join(tasks)}"
        )
    return planned


def _looked_up(name: str, alone: bool) -> tuple[str, str | None]:
    """A model's revision, and why it can't be used, if it can't.

    Raises:
        UsageError: it can't, and there is no other one.
    """
    try:
        return _trainable(name).revision, None
    except UsageError as error:
        if alone:
            raise
        return "", str(error)


def _trainable(name: str) -> Source:
    """A model that has weights to begin from.

    Raises:
        UsageError: it has none, or there is no such model.
    """
    source = resolve_model(name)
    if not source.weights:
        raise UsageError(
            f"model {name!r} is a config without weights, which only `peftbench latency` can use; use that, or give "
            "a model with safetensors weights"
        )
    return source


def named_task(text: str) -> tuple[str, dict[str, str]]:
    """The canonical SPEC of a task, and what its results depend on."""
    task = build.build_task(text)
    objective = task.objective  # reads the user's own file, if any, before a model is downloaded for it
    if (reason := objective.unavailable()) is not None:
        raise UsageError(f"task {text!r}: {reason}")
    build.check_rows(task)
    for notice in build.notices_of(task):
        notify(f"{text}: {notice}")
    return spec.canonical_spec(spec.parse(text).name, task), build.task_identity(text)


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


def _check_length(model: str, task: str, asked: Comparison) -> None:
    """Whether an item has room in the tokens asked for.

    Raises:
        UsageError: it has not.
    """
    if asked.max_length is None:
        return
    built, source = build.build_task(task), resolve_model(model)
    try:
        objective = built.objective.with_decoder_start(decoder_start(source))
        tokenizer = tokenizer_for(source, objective)
    except (NotSupported, ModelError):  # which are rows of their own
        return
    objective.encode(tokenizer, built.splits()["train"][:1], asked.max_length)


def _check_rows(
    model: str, source: Source, task_name: str, of_task: dict[str, str], asked: Comparison
) -> None:
    """Whether a task's objective takes every row, where some may be refused for what a model's tokenizer makes of them.

    Raises:
        UsageError: it refuses one.
    """
    task = build.build_task(task_name)
    if not task.objective.refuses_rows:
        return
    try:
        objective = task.objective.with_decoder_start(decoder_start(source))
        tokenizer = tokenizer_for(source, objective)
    except (NotSupported, ModelError):  # which are rows of their own
        return
    length = asked.resolve_budget(build.length_of(task_name), None).max_length
    key = batches.cache_key(task_name, of_task["task"], of_task["data"], model, source.revision)
    batches.encode_splits(task_name, objective, task.splits, tokenizer, length, key)


def _refusal(model: str, task: str) -> str | None:
    """Why a model can't serve a task at all, whatever the method."""
    try:
        head_for(resolve_model(model), build.build_task(task).objective)
    except NotSupported as error:
        return str(error)
    except ModelError:  # said for every task alike
        return None
    return None


def _methods(asked: Comparison, device: Device) -> dict[str, bool]:
    """Canonical SPECs, those asked for first, each with whether it is a baseline that was added."""
    wanted: dict[str, bool] = {}
    for text in asked.methods:
        wanted[method_on(text, device)] = False
    if asked.baselines:
        for name in defaults.BASELINES:
            if name in registry.load("method"):
                wanted.setdefault(name, True)
    if asked.baseline is not None and asked.adds_baseline:  # what differences are taken to must be run
        wanted.setdefault(method_on(asked.baseline, device), True)
    return wanted
