"""What is to be run, as plain data that travels to a worker process and into the record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..from_json import from_json

MEASURED_ALONE = ("profile", "latency")  # kinds of runs beside which nothing else may run
RESULT_VERSION = 8  # raise it when the trainer or a meter changes what it computes
SCORED = "spread over groups"  # which part of a split is scored: in the keys of the runs that score a part
SCHEMA = 4  # raise it when the fields of a record change their meaning
RETAIN_JOINED = "\n"  # between the parts of `identity["retain"]`, one a task
FSDP, DDP = PARALLEL = "fsdp", "ddp"
OPTIMIZERS = ADAMW, ADAMW_8BIT, PAGED_ADAMW_8BIT = "adamw", "adamw-8bit", "paged-adamw-8bit"


@dataclass(frozen=True)
class Budget:
    """What every method of a comparison is given alike."""

    # "quick", or "custom" where an option departs from it. It says nothing that the numbers do not.
    name: str = field(compare=False)
    steps: int | None  # optimizer steps; None: `epochs` says
    epochs: float | None
    batch_size: int  # items an optimizer step
    accumulate: int  # parts that a batch is cut into, to save memory
    max_length: int  # tokens; longer items are cut
    warmup_share: float = 0.06  # of the steps, linear from 0
    clip_norm: float = 1.0  # of the gradient over all that trains
    train_items: int | None = None  # of the training split, the same for all; None: all of it
    scored_items: int | None = (
        None  # of the test split, and of validation in a `fit`, spread over groups, the same for all; None: all
    )

    def resolve_steps(self, train_items: int) -> int:
        """Optimizer steps on a training split of that size, which is one batch where it fills none."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * train_items / min(self.batch_size, train_items)))

    def is_below_an_epoch(self, train_items: int) -> bool:
        """Whether its steps see a part of the training split alone, which the seed draws."""
        epoch = dataclasses.replace(self, steps=None, epochs=1.0)
        return self.resolve_steps(train_items) < epoch.resolve_steps(train_items)

    @property
    def of_a_step(self) -> Budget:
        """What one of its steps is the same for: how many items there are tells only where they are fewer than a batch."""
        few = self.train_items is not None and self.train_items < self.batch_size
        return dataclasses.replace(self, train_items=self.train_items if few else None, scored_items=None)


NO_BUDGET = Budget("none", 0, None, 0, 0, 0)  # of what is not trained


@dataclass(frozen=True)
class LatencyGrid:
    """What one process that measures inference does."""

    cells: tuple[tuple[int, int], ...]  # (batch, length)
    rounds: int = 40  # of each cell, after warm-up; every process adds as many
    execution: str = "eager"  # or "compile" (torch.compile), or "cuda-graphs"
    new_tokens: int = 0  # that a generative model decodes in each round after its prompt
    tasks: int = 0  # adapters of one method that are switched between, and served in one batch
    # Seconds after which its rounds end early; None: never. In no key: it tells how sure a figure is, and not what it is of.
    budget_s: float | None = None


@dataclass(frozen=True)
class Run:
    """One training run, one trial of a learning rate, or one process of a cost measurement."""

    kind: str  # "training", "tuning", "profile" (what a step costs, measured alone) or "latency"
    method: str  # SPEC; of a latency run also several with commas, measured over one shared base
    model: str
    task: str  # SPEC
    seed: int  # of a cost run or a latency run: the number of the process
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    budget: Budget
    device: str  # "cpu" or "cuda"
    dtype: str  # of the compute: "float32" or "bfloat16"; of a latency run also of the weights
    grid: LatencyGrid | None  # of a latency run
    plugins: tuple[str, ...]  # files and folders to load first
    identity: dict[str, Any]  # hashes of sources, data and weights
    data_dir: str | None = None  # a folder of published data sets
    attention: str | None = None  # the library's implementation of it; None: its default for the model
    forgetting: str | None = (
        None  # SPEC of a task on whose texts a language model's loss is taken before and after
    )
    retain: tuple[str, ...] = ()  # SPECs of other tasks whose scores are taken before and after
    retain_items: int = 0  # of each of them
    weights: str = "float32"  # data type of the frozen base: "float32" or "bfloat16"; what trains is float32
    checkpointing: bool = False  # activations are computed again for the backward pass: memory for time
    packing: bool = (
        False  # texts of a training batch are laid end to end in few rows: no arithmetic on padding
    )
    optimizer: str = ADAMW  # one of OPTIMIZERS
    compile: bool = False  # of a cost run: steps are timed under torch.compile, too
    threads: int = 1  # of a training run on a processor; a measurement that is alone has all cores
    ranks: int = 1  # processes that do it together, each with a GPU
    parallel: str = FSDP  # what they share: "fsdp" the weights of the base, too, or "ddp" the batches alone
    half_decade: int | None = None  # of a trial: its place around the preset, which is 0
    match: str | None = None  # what its method was sized to
    commits: dict[str, str] = field(default_factory=dict)  # that names of the hub stood for in the plan
    places: tuple[str, ...] = ()  # those of its words above that are paths
    home: str | None = None  # the folder that relative ones are seen from

    @property
    def cell(self) -> tuple[str, str, int | None]:
        """Its place in a comparison: methods are tuned and compared inside one."""
        return self.model, self.task, self.budget.train_items

    @property
    def pins(self) -> dict[str, str]:
        """The commit that each name of the hub stands for in this run, the model's among them."""
        commit = re.match(r"[0-9a-f]{40}(?![0-9a-f])", str(self.identity.get("model", "")))
        return {**self.commits, **({self.model: commit[0]} if commit else {})}

    @property
    def without_looks(self) -> Run:
        """The same, not looking at what is forgotten or retained; its results are the same."""
        if not self.looks_first and not {"forgetting", "retain"} & self.identity.keys():
            return self
        identity = {
            name: part for name, part in self.identity.items() if name not in ("forgetting", "retain")
        }
        return dataclasses.replace(self, forgetting=None, retain=(), retain_items=0, identity=identity)

    @property
    def looks_first(self) -> bool:
        """Whether it looks at the model before a method is in it."""
        return self.forgetting is not None or bool(self.retain)

    @property
    def retained_sources(self) -> list[str | None]:
        """Of each task in `retain`, a hash of what its scores depend on."""
        known: list[str | None] = [*str(self.identity.get("retain", "")).split(RETAIN_JOINED)]
        return known if len(known) == len(self.retain) else [None] * len(self.retain)

    @property
    def scored_split(self) -> str:
        """Validation chooses; test is read by the reported runs alone."""
        return "validation" if self.kind == "tuning" else "test"

    @cached_property
    def key(self) -> str:
        """The SHA-256 of what determines the result. Where files lie does not."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts["budget"] = {**self.budget.__dict__}
        parts["grid"] = self.grid and {n: v for n, v in self.grid.__dict__.items() if n != "budget_s"}
        # What the commits hold is in the identity.
        del (
            parts["plugins"],
            parts["data_dir"],
            parts["half_decade"],
            parts["match"],
            parts["commits"],
            parts["places"],
            parts["home"],
        )
        for name in ("model", "method", "task", "forgetting"):
            parts[name] = parts[name] and self.without_folders(parts[name])
        parts["retain"] = [self.without_folders(words) for words in self.retain]
        del parts["budget"]["name"]
        # What is left at its default is not in it, so that a new option leaves the keys of old results alone.
        for name in ("train_items", "scored_items"):
            if parts["budget"][name] is None:
                del parts["budget"][name]
        if "scored_items" in parts["budget"]:
            parts["budget"]["scored_items"] = [self.budget.scored_items, SCORED]
        if not self.retain:
            del parts["retain_items"]
        for name in ("attention", "forgetting", "retain", "checkpointing", "packing", "compile"):
            if not parts[name]:
                del parts[name]
        if self.weights == "float32":
            del parts["weights"]
        if self.optimizer == ADAMW or self.kind == "latency":
            del parts["optimizer"]
        if self.threads == 1 or self.kind in MEASURED_ALONE:
            del parts["threads"]
        if self.ranks == 1:
            del parts["ranks"], parts["parallel"]
        if self.kind in MEASURED_ALONE:
            for name in ("learning_rate", "head_learning_rate", "weight_decay"):
                del parts[name]
        if self.kind == "latency":  # neither data nor training reach it
            del parts["budget"]
            parts.pop("checkpointing", None)
            parts.pop("packing", None)
            parts["identity"] = {name: part for name, part in self.identity.items() if name != "data"}
        else:
            del parts["grid"]
        parts |= {"schema": SCHEMA, "result_version": RESULT_VERSION}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def without_folders(self, words: str) -> str:
        """Some of its words, of files their names alone."""
        for place in sorted(self.places, key=len, reverse=True):
            words = words.replace(place, Path(place).name)
        return words

    def named_as(self, other: Run) -> Run:
        """The same run with the paths of another one of its key, which may see them from another folder."""
        names = ("model", "method", "task", "forgetting", "retain", "places", "home", "match")
        return dataclasses.replace(self, **{name: getattr(other, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        # Not by `asdict`, which copies every part of every run of thousands.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts = {
            name: value and {**vars(value)} for name, value in (("budget", self.budget), ("grid", self.grid))
        }
        return {**fields, **parts, "identity": {**self.identity}, "commits": {**self.commits}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        return from_json(cls, data)


def resolved_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Files and folders as whole paths, so that a run finds them from wherever it is done."""
    return tuple(str(Path(plugin).expanduser().resolve()) for plugin in plugins)


@dataclass(frozen=True)
class Conditions:
    """Beside what and with what a run is done. Nothing of it is asked of the run's result."""

    threads: int | None = None  # of torch; None: as many as torch takes by itself
    gpu: int | None = (
        None  # the number of the only GPU that the run sees, or of its first rank's; None: the first
    )
    jobs: int = 1  # runs at once on this machine, this one among them
    curve_points: int = 0  # moments of training at which validation is scored
    keep_weights: bool = False  # also those of a method that changes the whole model
    checkpoint_every: int = 0  # steps after which a training keeps its state; 0: never
    checkpoint_folder: str | None = None  # where
    save_every: int = 0  # steps after which a training saves what it has learned; 0: at the end alone


ALONE = Conditions()


@dataclass(frozen=True)
class Planned:
    """A run and what is known of it before it starts."""

    run: Run
    baseline: bool  # added by the program, not asked for
    adapter_parameters: int | None
    head_parameters: int | None
    refusal: str | None  # why this method can't serve this model
    seeded: bool = True  # its outcome depends on the seed, and more seeds tell more
    tunable: bool = False  # a learning rate is to be found for it
    reference: bool = False  # differences are taken to it
    left_out: tuple[int, ...] = ()  # the numbers of a suite's exclusions that mean it

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "run": self.run.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Planned:
        left_out = tuple(data.get("left_out", ()))
        return cls(**{**data, "run": Run.from_json(data["run"]), "left_out": left_out})


BASE, COPY = "base", "copy of the base"
EXECUTIONS = ("eager", "compile", "cuda-graphs")


def merged_name(method: str) -> str:
    """The name of a method's merged variant."""
    return f"{method} merged"
