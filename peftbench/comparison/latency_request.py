"""What `peftbench latency` is asked for, each option declared once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .. import defaults
from ..errors import UsageError
from ..from_json import from_json
from ..option import COMPARED, EXECUTION, MEASUREMENT, Check, at_least, option, up_to, verify
from ..option_types import CELLS, TEXT, WHOLE
from ..records.runs import EXECUTIONS, LatencyGrid
from .request import device_option, methods_option, models_option, plugins_option


def _some_cells(option: str, value: tuple[tuple[int, int], ...] | None) -> None:
    if value == ():
        raise UsageError(f"{option} none leaves nothing to measure; write it as in 1x32,4x32")


def _none_or_several(why: str) -> Check:
    def check(option: str, value: int | None) -> None:
        if value is not None and (value < 0 or value == 1):
            raise UsageError(f"{option} must be 2 or more, or 0 for none, not {value}: {why}")

    return check


@dataclass(frozen=True)
class LatencyRequest:
    """What was asked for. None: as the device or the model has it."""

    methods: tuple[str, ...] = methods_option()
    models: tuple[str, ...] = models_option(" A folder with only a config is enough.")
    tasks: int = option(
        0, "Also switch between the adapters of this many tasks, and mix them in a batch.", COMPARED, WHOLE,
        check=up_to(1_000, _none_or_several("one is never switched")),
    )  # fmt: skip
    plugins: tuple[str, ...] = plugins_option()
    cells: tuple[tuple[int, int], ...] | None = option(
        None,
        "Batch size x tokens, as in 1x32,4x32.",
        MEASUREMENT,
        CELLS,
        "latency-grid",
        check=_some_cells,
    )
    processes: int = option(
        defaults.LATENCY_PROCESSES,
        "Number of fresh processes.",
        MEASUREMENT,
        WHOLE,
        check=up_to(1_000, at_least(1)),
    )
    rounds: int = option(
        LatencyGrid.rounds,
        "Timed rounds in each process.",
        MEASUREMENT,
        WHOLE,
        check=up_to(10**6, at_least(1)),
    )
    new_tokens: int | None = option(
        None, "Tokens that a generative model decodes in each round; 0: none.", MEASUREMENT, WHOLE,
        check=up_to(10**6, _none_or_several("the first comes with the prompt")),
    )  # fmt: skip
    execution: str = option(
        "eager", "eager, compile (torch.compile) or cuda-graphs.", EXECUTION, TEXT, choices=EXECUTIONS
    )
    device: str = device_option()
    dtype: str = option(
        "float32",
        "Type of weights and compute: float32 or bfloat16.",
        EXECUTION,
        TEXT,
        choices=("float32", "bfloat16"),
    )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LatencyRequest:
        return from_json(cls, data)


def check_latency_request(asked: LatencyRequest) -> None:
    """What can be said without loading anything.

    Raises:
        UsageError: a number is out of range or a list is empty.
    """
    verify(asked)
