"""Where a comparison is done and kept, and the options of each command together."""

from __future__ import annotations

from dataclasses import dataclass

from .. import defaults
from ..engine.sweep import Execution
from ..option import COMPARED, EXECUTION, OUTPUT, option, option_of, options_of
from ..option_types import FILE, FLAG, PATH, TEXT
from .latency_request import LatencyRequest
from .request import Comparison

MOST_UNASKED = 2_000  # training runs: above it is a slip of the finger, or days


@dataclass(frozen=True)
class Session:
    """Where a comparison is done and kept."""

    engine: str = option(
        defaults.ENGINE,
        "Where runs are done: local, inline (in this process, for debuggers), slurm (as in slurm:partition=gpu:gpus=1:time=60), ray (as in ray:HOST:6379), or one of your own.",
        EXECUTION,
        TEXT,
    )
    suite: str | None = option(
        None, "A TOML file with these words, or a built-in suite (`peftbench list suites`); what is given beside it holds.", COMPARED, FILE,
        completes="suite",
    )  # fmt: skip
    yes: bool = option(
        False, f"Also do what comes to more than {MOST_UNASKED:,} training runs.", EXECUTION, FLAG
    )
    dry_run: bool = option(False, "Print the plan and run nothing.", EXECUTION, FLAG)
    store: str = option(defaults.STORE, "Folder where results are stored.", OUTPUT, PATH)


@dataclass(frozen=True)
class Printed:
    """How a command prints; a Python program gets a DataFrame instead."""

    report: str = option(
        defaults.REPORT, "Output format (`peftbench list reports`); auto: markdown, or compact if the terminal is too narrow.", OUTPUT, TEXT,
        "format", completes="report",
    )  # fmt: skip
    quiet: bool = option(False, "Print no progress.", OUTPUT, FLAG)


RUN_OPTIONS = options_of(Comparison, Execution, Session)
LATENCY_OPTIONS = [
    *options_of(LatencyRequest),
    option_of(Execution, "timeout_s"),
    option_of(Execution, "retry_failed"),
    option_of(Session, "engine"),
    option_of(Session, "store"),
]
