"""The three decorators, and what they ask a method to declare.

@method("lora", claims=Claims(...), preset=Preset(...))     on a frozen dataclass with `inject(model)`
@task("rotten-tomatoes", version="1")                       on a frozen dataclass with `splits()`, `objective`
@report("markdown", suffix=".md")                           on a function from tables to text
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .errors import UsageError
from .registry import register

if TYPE_CHECKING:
    from torch import nn

    from .adaptation import Adaptation
    from .latency_table import LatencyTable
    from .objectives import Objective, Splits
    from .paper import Asked, Page
    from .table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Claims:
    """What a method says of itself; what it claims is checked."""

    identity_at_init: bool = False  # the adapted model's outputs equal the base's before training
    mergeable: bool = False  # folds into plain layers with the same outputs
    exact_base: bool = False  # base weights stay bitwise unchanged
    random_init: bool = False  # the seed reaches the initialisation
    seedless: bool = False  # the outcome does not depend on the seed: one run stands for all


@dataclass(frozen=True)
class Preset:
    """The learning rate of a run that does not tune, and where it comes from."""

    learning_rate: float
    source: str  # the task, grid and budget on whose validation split it was chosen
    weight_decay: float = 0.0


Also = Callable[[str], "Mapping[str, str] | None"]
"""From another name to the fields that it sets, or None: `adapter` for one of the adapters, a folder for a checkpoint."""


@dataclass(frozen=True)
class Facts:
    """What the table of methods says of one, in plain text."""

    equation: str  # W0 x + (alpha / r) B A x
    count: str  # numbers that train, as a formula
    paper: str  # an arXiv id, "arXiv 2106.09685"; empty where there is none
    stored: str = "what trains"


@dataclass(frozen=True)
class MethodDeclaration:
    claims: Claims
    preset: Preset
    facts: Facts | None = None


class Method(Protocol):
    """Hyper-parameters as fields; one verb. Optional: `declares(declared)` where fields change what is declared, `fingerprint()`
    where files are read, `to_peft(adaptation)` where the PEFT library has it."""

    def inject(self, model: nn.Module) -> Adaptation: ...


class Task(Protocol):
    """Where data comes from, and what is asked of it.

    The key of a run holds `fingerprint()`: a text that changes when the data does. Optional: `notices()`, lines on what a
    reader should know of the data, and `max_length`, at how many tokens items are cut unless `--max-length` says.
    """

    @property
    def objective(self) -> Objective: ...
    def splits(self) -> Splits: ...
    def fingerprint(self) -> str: ...


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


Report = Callable[["Sequence[Table]"], str | bytes]
LatencyReport = Callable[["Sequence[LatencyTable]"], str]


@dataclass(frozen=True)
class ReportDeclaration:
    suffix: str
    latency: LatencyReport | None


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


Experiment = Callable[["Asked"], "Page"]


def experiment(name: str, *, title: str) -> Callable[[Experiment], Experiment]:
    """Register a function as one of the LoRA paper's experiments: `peftbench paper NAME` calls it.

    Args:
        title: what `peftbench paper list` says of it.
    """

    def declare(function: Experiment) -> Experiment:
        register("experiment", name, function, title)
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
