"""From a SPEC to the method or task that it names, its fields set, and to what its results depend on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import defaults, spec
from ..data.digests import sha256_of
from ..data.hub import pinned
from ..errors import UsageError
from ..records.runs import Run
from . import registry
from .contracts import Method, MethodDeclaration, Task


def build_method(text: str) -> tuple[Method, MethodDeclaration]:
    """The method that a SPEC names, with its fields set, and what it declares."""
    parsed = spec.parse(text)
    entry, fields = registry.find("method", parsed.name)
    parsed = dataclasses.replace(parsed, fields=(*fields.items(), *parsed.fields))
    instance: Method = spec.build(parsed, entry.target, "method")
    declares = getattr(instance, "declares", None)
    return instance, entry.declared if declares is None else declares(entry.declared)


def method_identity(text: str) -> str:
    """What a method's results depend on beside its fields: its source, and the files that it reads or that its fields name."""
    source = registry.get("method", spec.parse(text).name).source_sha256()
    return " ".join(filter(None, [source, files_of(text)]))


def files_of(text: str) -> str:
    """A hash of the files that a method reads, or else of those that its fields name; empty where there are none."""
    instance, _ = build_method(text)
    own = getattr(instance, "fingerprint", None)
    read: str = own() if own is not None else _named_files(instance)
    return read


def _named_files(instance: Any) -> str:
    """The hashes of the files that a method's fields name, and of those in the folders."""
    found = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        place = Path(value).expanduser() if isinstance(value, str | Path) and str(value) else None
        if place is None or not place.exists():
            continue
        if place.is_file():
            found.append(sha256_of(place).hex())
        elif os.sep in str(value):  # a folder of one word may stand there by chance
            found += [sha256_of(file).hex() for file in sorted(place.iterdir()) if file.is_file()]
    return " ".join(found)


def task_identity(text: str) -> dict[str, str]:
    """What a task's results depend on beside its fields: its version and source, and its data."""
    entry = registry.get("task", spec.parse(text).name)
    return {"task": f"{entry.declared} {entry.source_sha256()}", "data": build_task(text).fingerprint()}


def source_of(text: str) -> str:
    """The identity of a task in one text, for runs that look at it beside the one that they train on."""
    return " ".join(task_identity(text).values())


def run_identity(method: str, revision: str, of_task: Mapping[str, str]) -> dict[str, str]:
    """What a run's results depend on beside its words; its key holds it.

    Args:
        method: SPEC.
        revision: of the model's files.
        of_task: the task's identity, and that of a text beside it; empty where there is none.
    """
    return {"model": revision, **of_task, "method": method_identity(method)}


def commits_of(method: str, tasks: Iterable[str]) -> dict[str, str]:
    """What names of the hub stand for that a run reads beside its model: its tasks' data, its method's files."""
    with pinned() as read:
        method_identity(method)
        for task in tasks:
            build_task(task).fingerprint()
    return read


def check_data(run: Run) -> None:
    """Whether the data that a planned run reads is what it was planned on.

    Raises:
        UsageError: it changed since.
    """
    if run.kind == "latency":
        return
    read: dict[str, tuple[str, str | None]] = {
        run.task: (build_task(run.task).fingerprint(), run.identity["data"])
    }
    if run.forgetting is not None:
        read[run.forgetting] = source_of(run.forgetting), run.identity["forgetting"]
    read |= {
        task: (source_of(task), then) for task, then in zip(run.retain, run.retained_sources, strict=True)
    }
    if changed := [task for task, (now, then) in read.items() if now != then]:
        raise UsageError(
            f"the data of {changed[0]!r} changed since the run was planned; type the command again"
        )


def canonical(text: str, device: str | None = None) -> str:
    """A method's SPEC as records spell it: the entry's own name, fields in order, defaults left out.

    Args:
        device: "cpu" or "cuda"; what the method leaves to it is then filled in.
    """
    instance, _ = build_method(text)
    if device is not None and (on_device := getattr(instance, "on_device", None)) is not None:
        instance = on_device(device)
    return spec.canonical_spec(registry.get("method", spec.parse(text).name).name, instance)


def build_task(text: str) -> Task:
    """The task that a SPEC names, with its fields set."""
    parsed = spec.parse(text)
    task: Task = spec.build(parsed, registry.get("task", parsed.name).target, "task")
    return task


def length_of(text: str) -> int:
    """At how many tokens a task cuts its items by itself."""
    return int(getattr(build_task(text), "max_length", defaults.MAX_LENGTH))


def check_rows(task: Task) -> None:
    """Let a task look at its rows, where it wants to before a model is loaded for them.

    Raises:
        UsageError: they can't be used.
    """
    getattr(task, "check", lambda: None)()


def notices_of(task: Task) -> list[str]:
    """What a reader should know of the task's data, where the task has found something."""
    found: list[str] = getattr(task, "notices", list)()
    return found
