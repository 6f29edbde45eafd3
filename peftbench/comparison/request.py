"""What a user asks for, each option declared once, and what can be said of it without loading anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import defaults
from ..errors import UsageError, unknown
from ..from_json import from_json
from ..option import (
    BUDGET,
    COMPARED,
    EXECUTION,
    MEASUREMENT,
    above_zero,
    at_least,
    not_empty,
    option,
    option_of,
    up_to,
    verify,
)
from ..option_types import CELLS, FLAG, FOLDER, GRIDS, NAMES, NUMBER, PATHS, SIZES, SPEC, SPECS, TEXT, WHOLE
from ..records.match import check_match
from ..records.runs import ADAMW, FSDP, OPTIMIZERS, PARALLEL, Budget
from .exclusion import Exclusion

if TYPE_CHECKING:
    from ..stats.sequential import SeedSchedule

# Above these it is a slip of the finger, and its plan alone would take for ever.
MOST_SEEDS, MOST_RATES, MOST_STEPS, MOST_EPOCHS = 1_000, 100, 10**9, 10**6
MOST_ITEMS, MOST_TOKENS, MOST_RANKS = 10**6, 10**6, 1_024
RETAIN_ITEMS = 200  # enough to see a loss of ten points, few enough to write in each run
SOME_METHODS = not_empty("is empty; name some, as in --methods lora,adapter (peftbench list methods)")
SOME_NAME = not_empty("needs a name; leave it out for the starter's")


def methods_option() -> Any:
    """What is compared."""
    return option(
        tuple(defaults.METHODS.split(",")), "Methods, as in lora:rank=4,adapter (`peftbench list methods`).", COMPARED, GRIDS,
        check=SOME_METHODS, completes="method",
    )  # fmt: skip


def models_option(also: str = "") -> Any:
    """On which models; `also` is said in the help."""
    said = f"Starter model, folder or hub id; several with commas.{also}"
    return option((defaults.MODEL,), said, COMPARED, NAMES, "model", check=SOME_NAME, completes="model")


def plugins_option() -> Any:
    """What is loaded first."""
    return option(
        (), "A Python or TOML file, or a folder, with your own methods, tasks or reports.", COMPARED, PATHS
    )


def data_dir_option() -> Any:
    return option(
        None, "Folder of published data sets, as in DIR/glue/sst2/train.jsonl.gz; default: the hub.", COMPARED, FOLDER
    )  # fmt: skip


def device_option() -> Any:
    """Where it runs."""
    return option("auto", "auto, cpu or cuda.", EXECUTION, TEXT, choices=("auto", "cpu", "cuda"))


def _known_budget(option: str, value: str | None) -> None:
    if value is not None and value not in defaults.BUDGETS:
        raise unknown("budget", value, defaults.BUDGETS, "one of " + ", ".join(defaults.BUDGETS))


def _sizes_in_range(option: str, value: Sequence[int | None]) -> None:
    if not value:
        raise UsageError(f"{option} is empty; give some, as in {option} 100,1000,all")
    if small := [size for size in value if size is not None and size < 2]:
        raise UsageError(f"{option} must be 2 or more, or all, not {small[0]}")


@dataclass(frozen=True)
class Comparison:
    """What was asked for. None: as the budget of that name says, or the task, the model or the device."""

    methods: tuple[str, ...] = methods_option()
    models: tuple[str, ...] = models_option()
    tasks: tuple[str, ...] = option(
        (defaults.TASK,),
        "Tasks (`peftbench list tasks`), or your own data as in csv:path=reviews.csv.",
        COMPARED,
        SPECS,
        "task",
        check=SOME_NAME,
        completes="task",
    )
    baselines: bool = option(True, "Add full fine-tuning and a linear probe (head).", COMPARED, FLAG)
    baseline: str | None = option(
        None, f"Method that all others are compared with; default: {defaults.REFERENCE}, or {defaults.NEXT_REFERENCE} where that has no finished run.", COMPARED, SPEC,
        completes="method",
    )  # fmt: skip
    plugins: tuple[str, ...] = plugins_option()
    data_dir: str | None = data_dir_option()
    budget: str | None = option(
        None, "; ".join(f"{name}: {own.in_words}" for name, own in defaults.BUDGETS.items())
        + f". Default: {defaults.BUDGET}; {', '.join(f'{budget} for {suite}' for suite, budget in defaults.BUDGET_OF_SUITE.items())}.", BUDGET, TEXT,
        choices=defaults.BUDGETS, check=_known_budget,
    )  # fmt: skip
    seeds: int | None = option(
        None, "Runs of each method; default: the budget's.", BUDGET, WHOLE, check=up_to(MOST_SEEDS)
    )
    steps: int | None = option(
        None, "Optimizer steps; default: the budget's.", BUDGET, WHOLE, check=up_to(MOST_STEPS)
    )
    epochs: float | None = option(
        None, "Passes over the training split, instead of --steps.", BUDGET, NUMBER, check=up_to(MOST_EPOCHS)
    )
    tune: int | None = option(
        None, "Learning-rate sweep on validation: number of rates for each method; 0: presets.", BUDGET, WHOLE,
        check=up_to(MOST_RATES, at_least(0, "; 0 takes the presets")),
    )  # fmt: skip
    learning_rate: float | None = option(
        None,
        "Learning rate of the methods in --methods; default: presets.",
        BUDGET,
        NUMBER,
        "lr",
        check=above_zero,
    )
    until: float | None = option(
        None,
        "Add seeds until differences of this many points are resolved.",
        BUDGET,
        NUMBER,
        check=above_zero,
    )
    max_seeds: int = option(
        defaults.MAX_SEEDS, "Number of seeds at which --until stops.", BUDGET, WHOLE, check=up_to(MOST_SEEDS)
    )
    batch_size: int | None = option(
        None, "Items in an optimizer step; default: the budget's.", BUDGET, WHOLE, check=up_to(MOST_ITEMS)
    )
    accumulate: int = option(
        1, "Gradient accumulation: parts of a batch, to save memory.", BUDGET, WHOLE, check=up_to(MOST_ITEMS)
    )
    max_length: int | None = option(
        None,
        "Tokens of an item; longer items are cut. Default: the task's, 48 for most.",
        BUDGET,
        WHOLE,
        check=up_to(MOST_TOKENS),
    )
    train_sizes: tuple[int | None, ...] = option(
        (None,), "Numbers of training items, as in 100,1000,all: a table for each, and one for all sizes.", BUDGET, SIZES,
        "train-size", check=_sizes_in_range,
    )  # fmt: skip
    scored_items: int | None = option(
        None, "Number of test items to score, the same share of each group, the same for all methods; 0: all. Default: the budget's.", BUDGET,
        WHOLE, check=up_to(MOST_ITEMS, at_least(0, "; 0 scores all")),
    )  # fmt: skip
    match: str | None = option(
        None, "Size each method to one figure by its own field (rank, bottleneck, length): params=300k or stored=2MB.", BUDGET, TEXT,
        check=check_match,
    )  # fmt: skip
    latency_grid: tuple[tuple[int, int], ...] | None = option(
        None, "Latency: batch size x tokens, as in 1x32,4x32; none to skip.", MEASUREMENT, CELLS
    )
    latency_budget_s: float = option(
        defaults.LATENCY_BUDGET_S, "Seconds of timing for latency, all methods of a model and task together.", MEASUREMENT,
        NUMBER, "latency-budget", check=above_zero,
    )  # fmt: skip
    profile: bool = option(
        True, "Measure memory and step time of each method in separate runs, with nothing else running.", MEASUREMENT,
        FLAG,
    )  # fmt: skip
    cost_runs: int | None = option(
        None, "Cost runs (see --profile) of each method; several give costs an interval. Default: the budget's.", MEASUREMENT, WHOLE,
        check=up_to(100),
    )  # fmt: skip
    compile: bool = option(
        False, "Cost runs also time steps under torch.compile: how much faster, and after how many steps compiling pays.",
        MEASUREMENT, FLAG,
    )  # fmt: skip
    forgetting: str | None = option(
        None, "Task whose texts show what a language model forgets: its loss on them, before and after, as in xsum-1k.", MEASUREMENT,
        SPEC, completes="task",
    )  # fmt: skip
    retain: tuple[str, ...] = option(
        (), "Other tasks whose scores are taken before and after training, as in samsum,gsm8k: what is lost where nothing was trained. "
        "For tasks that the model does without a new head.", MEASUREMENT, SPECS, completes="task",
    )  # fmt: skip
    retain_items: int = option(
        RETAIN_ITEMS, "Number of test items of each task of --retain to score, the same for all methods and seeds.", MEASUREMENT, WHOLE,
        check=up_to(MOST_ITEMS),
    )  # fmt: skip
    device: str = device_option()
    threads: int | None = option(
        None, "Threads of a run on a CPU; part of the run's key. Default: 1; all cores for models above 100M.", EXECUTION,
        WHOLE, check=up_to(1_024),
    )  # fmt: skip
    dtype: str = option(
        "auto",
        "Compute type: auto, float32 or bfloat16.",
        EXECUTION,
        TEXT,
        choices=("auto", "float32", "bfloat16"),
    )
    weights: str = option(
        "auto", "Data type of the frozen model: float32 or bfloat16; auto: the checkpoint's own on a GPU, float32 on a CPU.",
        EXECUTION, TEXT, choices=("auto", "float32", "bfloat16"),
    )  # fmt: skip
    attention: str | None = option(
        None, "Attention implementation of transformers: eager, sdpa, flash_attention_2, ...; default: the model's.", EXECUTION,
        TEXT,
    )  # fmt: skip
    checkpointing: bool = option(
        False, "Activation checkpointing: less memory, more time.", EXECUTION, FLAG,
        "checkpoint-activations",
    )  # fmt: skip
    packing: bool = option(
        False,
        "Lay a batch's texts end to end in few rows: no time for padding. For decoders that write.",
        EXECUTION,
        FLAG,
    )
    optimizer: str = option(
        ADAMW, "AdamW with moments in float32 or, by bitsandbytes, in 8 bits (2 bytes a trained number, not 8), which may be paged to the host's memory.",
        EXECUTION, TEXT, choices=OPTIMIZERS,
    )  # fmt: skip
    gpus_per_run: int = option(
        1, "GPUs that share each training run, a process each: for a model that is too large for one. On a CPU: processes, to try it.",
        EXECUTION, WHOLE, check=up_to(MOST_RANKS),
    )  # fmt: skip
    parallel: str = option(
        FSDP, "What they share: fsdp the batch and the base model's weights, or ddp the batch alone.", EXECUTION, TEXT,
        choices=PARALLEL,
    )  # fmt: skip

    excluded: tuple[Exclusion, ...] = ()  # what a suite leaves out of it
    adds_baseline: bool = True  # not where another comparison of its suite has it, at its own rate

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Comparison:
        return from_json(cls, data)

    def resolve_budget(
        self, task_length: int = defaults.MAX_LENGTH, train_items: int | None = None
    ) -> Budget:
        """The budget's own numbers where nothing departs from them; else "custom".

        Args:
            task_length: at how many tokens the task cuts its items, unless something else is asked for.
            train_items: of the training split; None: all of it.
        """
        max_length = self.max_length or task_length
        own = self._own
        steps, epochs = self.steps, self.epochs
        if steps is None and epochs is None:
            steps, epochs = own.steps, own.epochs
        scored = own.scored_items if self.scored_items is None else self.scored_items
        sizes = (steps, epochs, self.items_a_step, max_length, scored)
        usual = (own.steps, own.epochs, own.batch_size, task_length, own.scored_items)
        same = sizes == usual and not train_items
        return Budget(
            name=self._budget if same else "custom",
            steps=steps,
            epochs=epochs,
            batch_size=self.items_a_step,
            accumulate=self.accumulate,
            max_length=max_length,
            train_items=train_items,
            scored_items=scored or None,
        )

    @property
    def _budget(self) -> str:
        """The name of its budget: where none is asked for, that of the suite which all its tasks are."""
        of_suites = {defaults.BUDGET_OF_SUITE.get(task, defaults.BUDGET) for task in self.tasks}
        return self.budget or (of_suites.pop() if len(of_suites) == 1 else defaults.BUDGET)

    @property
    def _own(self) -> defaults.NamedBudget:
        return defaults.BUDGETS[self._budget]

    @property
    def items_a_step(self) -> int:
        """Items of an optimizer step."""
        return self.batch_size if self.batch_size is not None else self._own.batch_size

    @property
    def first_seeds(self) -> int:
        """Seeds before any are added."""
        return self.seeds if self.seeds is not None else self._own.seeds

    @property
    def cost_processes(self) -> int:
        """Cost runs of each method; 0 where none are asked for."""
        if not self.profile:
            return 0
        return self.cost_runs if self.cost_runs is not None else self._own.cost_runs

    @property
    def trials(self) -> int:
        """Learning rates that each method is tuned over; 0 where it is not."""
        if self.tune is None:
            return 0 if self.learning_rate is not None else self._own.tune
        return self.tune

    @property
    def sequence(self) -> SeedSchedule | None:
        """The rule for adding seeds, where `until` asks for one."""
        if self.until is None:
            return None
        from ..stats.sequential import SeedSchedule  # the command line's help need not wait for it

        return SeedSchedule(self.until, self.first_seeds, max(self.max_seeds, self.first_seeds))


def check_request(asked: Comparison) -> None:
    """What can be said without loading anything.

    Raises:
        UsageError: a number is out of range, a list is empty or options exclude each other.
    """
    verify(asked)
    if asked.steps is not None and asked.epochs is not None:
        raise UsageError("--steps and --epochs exclude each other; give one")
    if asked.tune and asked.learning_rate is not None:
        raise UsageError("--tune searches learning rates and --lr sets one; leave one of them out")
    if asked.accumulate > asked.items_a_step:
        raise UsageError(
            f"--accumulate {asked.accumulate} cuts a batch of {asked.items_a_step} into empty parts"
        )
    _refuse_without_effect(asked)
    if asked.until is not None and asked.first_seeds < 2:
        raise UsageError("--until needs --seeds 2 or more to begin with: one seed does not show a spread")
    if asked.until is not None and asked.first_seeds > asked.max_seeds:
        raise UsageError(
            f"--until begins with {asked.first_seeds} seeds, above --max-seeds {asked.max_seeds}"
        )


def _refuse_without_effect(asked: Comparison) -> None:
    """Refuse options of what is not done.

    Raises:
        UsageError: there is one.
    """
    for field, acts, why in (
        (
            "max_seeds",
            asked.until is not None,
            "is where --until stops, which is not there; --seeds sets their number",
        ),
        ("cost_runs", asked.profile, "has no effect with --no-profile; leave one of them out"),
        (
            "compile",
            asked.profile,
            "times steps of cost runs, which --no-profile leaves out; drop one of them",
        ),
        (
            "retain_items",
            bool(asked.retain),
            "is of the tasks of --retain, and there are none; add it, or leave this out",
        ),
        (
            "latency_budget_s",
            asked.latency_grid != (),
            "has no effect with --latency-grid none; leave one of them out",
        ),
        (
            "compile",
            asked.gpus_per_run == 1,
            "times steps of a run on one GPU; leave it or --gpus-per-run out",
        ),
        (
            "parallel",
            asked.gpus_per_run > 1,
            "is of runs on several GPUs; add --gpus-per-run, or leave it out",
        ),
    ):
        one = option_of(Comparison, field)
        if not acts and getattr(asked, field) != one.default:
            raise UsageError(f"{one.flag} {why}")
