"""What `peftbench paper` is asked for, each option declared once."""

from __future__ import annotations

from dataclasses import dataclass

from ..comparison.request import data_dir_option, plugins_option
from ..option import COMPARED, EXECUTION, OUTPUT, option
from ..option_types import FLAG, PATH, TEXT

SCALES = ("cpu", "small", "full")


@dataclass(frozen=True)
class PageRequest:
    """What was asked for. None: as the experiment has it."""

    scale: str = option(
        "cpu", "cpu: minutes on two cores; small: an hour on one GPU; full: the paper's own.", COMPARED, TEXT, choices=SCALES
    )  # fmt: skip
    model: str | None = option(
        None,
        "Another model than the scale's: a name, a folder or a hub id.",
        COMPARED,
        TEXT,
        completes="model",
    )
    plugins: tuple[str, ...] = plugins_option()
    data_dir: str | None = data_dir_option()
    dtype: str | None = option(
        None, "Another compute type than the experiment's.", EXECUTION, TEXT, choices=("float32", "bfloat16")
    )
    strict: bool = option(False, "Exit status 1 if a statement is contradicted.", OUTPUT, FLAG)
    out: str | None = option(
        None, "A folder for NAME.md, its pictures and NAME.html; default: Markdown to standard output.", OUTPUT, PATH
    )  # fmt: skip
