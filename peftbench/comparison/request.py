"""What a user asks for, in the words of the command line, and what can be said of it without loading anything."""

from __future__ import annotations

from dataclasses import dataclass

from .. import defaults
from ..errors import UsageError, unknown
from ..records.runs import Budget
from ..stats.sequential import SeedSchedule


@dataclass(frozen=True)
class Comparison:
    """What was asked for, in the words of the command line. None: as the budget of that name says."""

    methods: tuple[str, ...]  # SPECs
    models: tuple[str, ...] = (defaults.MODEL,)
    tasks: tuple[str, ...] = (defaults.TASK,)  # SPECs
    budget: str = defaults.BUDGET
    seeds: int | None = None
    steps: int | None = None
    epochs: float | None = None
    tune: int | None = None  # learning rates a method, tried on validation; 0: presets
    batch_size: int = defaults.BATCH_SIZE
    accumulate: int = 1
    max_length: int | None = None  # tokens; None: the task's
    train_sizes: tuple[int | None, ...] = (
        None,
    )  # items of the training split, each in turn; None: all of it
    attention: str | None = None  # the library's implementation; None: its default
    forgetting: str | None = None  # SPEC of a task: a language model's loss on its texts, before and after
    checkpointing: bool = False  # activations are computed again for the backward pass
    learning_rate: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    jobs: int = 1
    baselines: bool = True
    baseline: str | None = None  # SPEC: what differences are taken to; None: the default one, if it is run
    until: float | None = None  # points of a share, or units: seeds are added until it is resolved
    max_seeds: int = defaults.MAX_SEEDS
    latency_grid: tuple[tuple[int, int], ...] | None = None  # None: the device's default
    profile: bool = True  # also look inside a step of each method: memory by kind, arithmetic
    plugins: tuple[str, ...] = ()
    data_dir: str | None = None  # a folder of published data sets

    def resolve_budget(
        self, task_length: int = defaults.MAX_LENGTH, train_items: int | None = None
    ) -> Budget:
        """The budget's own numbers where nothing departs from them; else "custom".

        Args:
            task_length: at how many tokens the task cuts its items, unless something else is asked for.
            train_items: of the training split; None: all of it.
        """
        max_length = self.max_length or task_length
        own = defaults.BUDGETS[self.budget]
        steps, epochs = self.steps, self.epochs
        if steps is None and epochs is None:
            steps, epochs = own["steps"], own["epochs"]  # type: ignore[assignment]
        sizes = (steps, epochs, self.batch_size, max_length)
        same = sizes == (own["steps"], own["epochs"], defaults.BATCH_SIZE, task_length) and not train_items
        return Budget(
            name=self.budget if same else "custom",
            steps=steps,
            epochs=epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            max_length=max_length,
            train_items=train_items,
        )

    @property
    def first_seeds(self) -> int:
        """Seeds before any are added."""
        return self.seeds if self.seeds is not None else int(defaults.BUDGETS[self.budget]["seeds"] or 1)

    @property
    def trials(self) -> int:
        """Learning rates that each method is tuned over; 0 where it is not."""
        if self.tune is None:
            return 0 if self.learning_rate is not None else int(defaults.BUDGETS[self.budget]["tune"] or 0)
        return self.tune

    @property
    def sequence(self) -> SeedSchedule | None:
        """The rule for adding seeds, where `until` asks for one."""
        if self.until is None:
            return None
        return SeedSchedule(self.until, self.first_seeds, max(self.max_seeds, self.first_seeds))


def check_request(asked: Comparison) -> None:
    """What can be said without loading anything.

    Raises:
        UsageError: a number is out of range, a list is empty or options exclude each other.
    """
    if not asked.methods:
        raise UsageError(
            "--methods is empty; name some, as in --methods lora,adapter (peftbench list methods)"
        )
    if not asked.models or not asked.tasks:
        raise UsageError("--model and --task each need a name; leave them out for the starter's")
    if asked.budget not in defaults.BUDGETS:
        raise unknown("budget", asked.budget, defaults.BUDGETS, "one of " + ", ".join(defaults.BUDGETS))
    if asked.steps is not None and asked.epochs is not None:
        raise UsageError("--steps and --epochs exclude each other; give one")
    if asked.tune and asked.learning_rate is not None:
        raise UsageError("--tune looks for learning rates and --lr gives one; leave one of them out")
    if asked.tune is not None and asked.tune < 0:
        raise UsageError(f"--tune must be 0 or more, not {asked.tune}; 0 takes the presets")
    for name in (
        "seeds", "steps", "epochs", "batch_size", "accumulate", "max_length", "learning_rate", "jobs", "until", "max_seeds",
    ):  # fmt: skip
        value = getattr(asked, name)
        if value is not None and not value > 0:
            option = {"learning_rate": "lr"}.get(name, name.replace("_", "-"))
            raise UsageError(f"--{option} must be above 0, not {value}")
    if small := [size for size in asked.train_sizes if size is not None and size < 2]:
        raise UsageError(f"--train-size must be 2 or more, or all, not {small[0]}")
    if not asked.train_sizes:
        raise UsageError("--train-size is empty; give some, as in --train-size 100,1000,all")
    if asked.accumulate > asked.batch_size:
        raise UsageError(
            f"--accumulate {asked.accumulate} cuts a batch of {asked.batch_size} into empty parts"
        )
    if asked.until is not None and asked.first_seeds < 2:
        raise UsageError("--until needs --seeds 2 or more to begin with: one seed says nothing of the spread")
    if asked.until is not None and asked.first_seeds > asked.max_seeds:
        raise UsageError(
            f"--until begins with {asked.first_seeds} seeds, above --max-seeds {asked.max_seeds}"
        )
