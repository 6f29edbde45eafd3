"""What `peftbench latency` is asked for, and what can be said of it without loading anything."""

from __future__ import annotations

from dataclasses import dataclass

from .. import defaults
from ..errors import UsageError, unknown
from ..records.runs import EXECUTIONS, LatencyGrid


@dataclass(frozen=True)
class LatencyRequest:
    """What was asked for, in the words of the command line."""

    methods: tuple[str, ...]  # SPECs
    models: tuple[str, ...] = (defaults.MODEL,)
    device: str = "auto"
    dtype: str = "float32"  # of weights and compute
    cells: tuple[tuple[int, int], ...] | None = None  # None: the device's default
    processes: int = defaults.LATENCY_PROCESSES
    rounds: int = LatencyGrid.rounds
    execution: str = "eager"
    new_tokens: int | None = None  # None: some, where the model generates
    tasks: int = 0  # adapters to switch between and to serve in one batch; 0: not measured
    plugins: tuple[str, ...] = ()


def check_latency_request(asked: LatencyRequest) -> None:
    """What can be said without loading anything.

    Raises:
        UsageError: a number is out of range or a list is empty.
    """
    if not asked.methods:
        raise UsageError(
            "--methods is empty; name some, as in --methods lora,adapter (peftbench list methods)"
        )
    if not asked.models:
        raise UsageError("--model needs a name; leave it out for the starter's")
    if asked.cells == ():
        raise UsageError("--latency-grid none leaves nothing to measure; write it as in 1x32,4x32")
    if asked.execution not in EXECUTIONS:
        raise unknown("value of --execution:", asked.execution, EXECUTIONS, "one of " + ", ".join(EXECUTIONS))
    for option, value in (("processes", asked.processes), ("rounds", asked.rounds)):
        if value < 1:
            raise UsageError(f"--{option} must be 1 or more, not {value}")
    if asked.new_tokens is not None and (asked.new_tokens < 0 or asked.new_tokens == 1):
        raise UsageError(
            f"--new-tokens must be 2 or more, or 0 for none, not {asked.new_tokens}: the first comes with the prompt"
        )
    if asked.tasks < 0 or asked.tasks == 1:
        raise UsageError(
            f"--tasks must be 2 or more, or 0 for none, not {asked.tasks}: one is never switched"
        )
