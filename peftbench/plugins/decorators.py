"""The decorators, and what they ask of what they stand on.

@method("lora", claims=Claims(...), preset=Preset(...))     on a frozen dataclass with `inject(model)`
@task("rotten-tomatoes", version="1")                       on a frozen dataclass with `splits()`, `objective`
@report("markdown", suffix=".md")                           on a function from tables to text
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

from ..errors import UsageError
from .contracts import (
    Also,
    Claims,
    Experiment,
    Facts,
    LatencyReport,
    MethodDeclaration,
    Preset,
    Report,
    ReportDeclaration,
    T,
)
from .registry import register


def method(
    name: str, claims: Claims, preset: Preset, also: Also | None = None, facts: Facts | None = None
) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a method: its fields are the hyper-parameters, `inject(model)` its one verb.

    Args:
        also: the other names that it answers to, and the fields that each of them sets.
        facts: what the table of methods says of it.
    """

    def declare(cls: type[T]) -> type[T]:
        _check_dataclass("method", name, cls, "inject")
        register("method", name, cls, MethodDeclaration(claims, preset, facts), also)
        return cls

    return declare


def task(name: str, *, version: str) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a task. Raise `version` when the task changes what it yields or scores."""

    def declare(cls: type[T]) -> type[T]:
        _check_dataclass("task", name, cls, "splits")
        register("task", name, cls, version)
        return cls

    return declare


def report(name: str, *, suffix: str, latency: LatencyReport | None = None) -> Callable[[Report], Report]:
    """Register a pure function from `Table`s to text, or to the bytes of a file.

    Args:
        suffix: the file ending of its output.
        latency: the same for the tables of `peftbench latency`, where the report has them.
    """

    def declare(function: Report) -> Report:
        register("report", name, function, ReportDeclaration(suffix, latency))
        return function

    return declare


def experiment(name: str, *, title: str, of: str | None = None) -> Callable[[Experiment], Experiment]:
    """Register a function as an experiment: `peftbench paper NAME` calls it, or `peftbench paper OF/NAME`.

    Args:
        title: what `peftbench paper list` says of it.
        of: the collection that it belongs to, as in `dora-paper`; None: the LoRA paper's. Two may use the same names.

    Raises:
        UsageError: the name is taken, or the collection's is none.
    """
    if of is not None and not re.fullmatch(r"[a-z][a-z0-9-]*", of):
        raise UsageError(f"experiment {name!r}: of={of!r} must be of lower-case letters, digits and dashes")

    def declare(function: Experiment) -> Experiment:
        register("experiment", name if of is None else f"{of}/{name}", function, title)
        return function

    return declare


def _check_dataclass(kind: str, name: str, cls: type[Any], verb: str) -> None:
    params = getattr(cls, "__dataclass_params__", None)
    if not dataclasses.is_dataclass(cls) or params is None or not params.frozen:
        raise UsageError(
            f"{kind} {name!r}: put @dataclass(frozen=True) below @{kind}, so that its fields are its options"
        )
    typed = inspect.get_annotations(cls)
    bare = [
        name
        for name, value in vars(cls).items()
        if not name.startswith("_")
        and isinstance(value, bool | int | float | str | tuple)
        and name not in typed
    ]
    if bare:
        raise UsageError(
            f"{kind} {name!r}: {', '.join(bare)} has no type and so is no option; write {bare[0]}: "
            f"{type(vars(cls)[bare[0]]).__name__} = ..., or ClassVar where it is meant to stay"
        )
    if not callable(getattr(cls, verb, None)):
        raise UsageError(f"{kind} {name!r} has no {verb}(); see `peftbench list {kind}s` for ones that do")
