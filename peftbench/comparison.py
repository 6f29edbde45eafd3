"""What a user asks for, in the words of the command line, and what can be said of it without loading anything."""

from __future__ import annotations

from dataclasses import dataclass

from . import defaults
from .errors import UsageError
from .runs import Budget


@dataclass(frozen=True)
class Comparison:
    """What was asked for, in the words of the command line."""

    methods: tuple[str, ...]  # SPECs
    models: tuple[str, ...] = (defaults.MODEL,)
    tasks: tuple[str, ...] = (defaults.TASK,)  # SPECs
    seeds: int = defaults.SEEDS
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = defaults.BATCH_SIZE
    accumulate: int = 1
    max_length: int = defaults.MAX_LENGTH
    learning_rate: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    baselines: bool = True
    latency_grid: tuple[tuple[int, int], ...] | None = None  # None: the device's default
    plugins: tuple[str, ...] = ()

    def budget(self) -> Budget:
        """Quick where nothing departs from it."""
        departs = self.epochs is not None or (self.steps or defaults.STEPS) != defaults.STEPS
        sizes = (self.batch_size, self.max_length) != (defaults.BATCH_SIZE, defaults.MAX_LENGTH)
        return Budget(
            name="custom" if departs or sizes else "quick",
            steps=None if self.epochs is not None else (self.steps or defaults.STEPS),
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            max_length=self.max_length,
        )


def check(asked: Comparison) -> None:
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
    if asked.steps is not None and asked.epochs is not None:
        raise UsageError("--steps and --epochs exclude each other; give one")
    for name in ("seeds", "steps", "epochs", "batch_size", "accumulate", "max_length", "learning_rate"):
        value = getattr(asked, name)
        if value is not None and not value > 0:
            option = {"learning_rate": "lr"}.get(name, name.replace("_", "-"))
            raise UsageError(f"--{option} must be above 0, not {value}")
    if asked.accumulate > asked.batch_size:
        raise UsageError(
            f"--accumulate {asked.accumulate} cuts a batch of {asked.batch_size} into empty parts"
        )
