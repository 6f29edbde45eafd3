"""What a method, a task, a report and an experiment are, and what a method says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import nn

    from ..experiments.page import Asked, Page
    from ..models.adaptation import Adaptation
    from ..objectives.base import Objective, Splits
    from ..tables.latency import LatencyTable
    from ..tables.table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Claims:
    """What a method says of itself; what it claims is checked."""

    identity_at_init: bool = False  # the adapted model's outputs equal the base's before training
    mergeable: bool = False  # folds into plain layers with the same outputs
    exact_base: bool = False  # base weights stay bitwise unchanged
    random_init: bool = False  # the seed reaches the initialisation
    seedless: bool = False  # nothing but the items that it sees depends on the seed
    # Passes, items, optimizer steps and rates a step are those that every method gets.
    shared_budget: bool = True


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
    where files are read, `to_peft(adaptation)` where the PEFT library has it, `on_device(device)`, the same method with what it
    leaves to "cpu" or "cuda" filled in, where it does."""

    def inject(self, model: nn.Module) -> Adaptation: ...


class Task(Protocol):
    """Where data comes from, and what is asked of it.

    The key of a run holds `fingerprint()`: a text that changes when the data does. Optional: `notices()`, lines on what a
    reader should know of the data, `check()`, which raises a `UsageError` where rows can't be used and is asked once before anything is
    loaded, and `max_length`, at how many tokens items are cut unless `--max-length` says.
    """

    @property
    def objective(self) -> Objective: ...
    def splits(self) -> Splits: ...
    def fingerprint(self) -> str: ...


Report = Callable[["Sequence[Table]"], str | bytes]
LatencyReport = Callable[["Sequence[LatencyTable]"], str]


@dataclass(frozen=True)
class ReportDeclaration:
    suffix: str
    latency: LatencyReport | None


Experiment = Callable[["Asked"], "Page"]
