"""The page docs/options.md, from the declarations: `python -m peftbench.inspection.options_page docs/options.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..comparison.session import LATENCY_OPTIONS, RUN_OPTIONS, Printed
from ..option import Option, in_panels, options_of
from ..option_types import FLAG
from ..render.markdown import plain_text

HEAD = """<!-- made by `make docs` from the declarations in peftbench/comparison/ and peftbench/engine/sweep.py -->

# Options

`peftbench.run(...)` takes every option of `peftbench run` by its name, with underscores for dashes: `--train-size 100,all` is
`train_size="100,all"`, or `train_size=[100, "all"]`. It makes the same checks. What only says how a command prints
(`--format`, `--quiet`) it does not take: it returns a pandas DataFrame.

`peftbench --install-completion` teaches your shell the options, and the names of methods, tasks, models and reports.
"""


def options_page() -> str:
    """The page as Markdown."""
    printed = options_of(Printed)
    commands = {"run": [*RUN_OPTIONS, *printed], "latency": [*LATENCY_OPTIONS, *printed]}
    return HEAD + "".join(
        f"\n## `peftbench {name}`\n\n{_table(options)}" for name, options in commands.items()
    )


def _table(options: Iterable[Option]) -> str:
    lines = ["| option | default | |", "|---|---|---|"]
    for panel, inside in in_panels(options):
        lines += [f"| **{panel}** | | |", *map(_row, inside)]
    return "\n".join(lines) + "\n"


def _row(one: Option) -> str:
    if one.type is FLAG:
        spelled = f"`{one.flag}`" + (f", `--no-{one.name}`" if one.default else "")
        default = "yes" if one.default else "no"
    else:
        value = ("|".join(one.choices) or one.type.metavar).replace("|", "\\|")
        spelled = f"`{one.flag} {value}`"
        default = f"`{one.shown_default}`" if one.shown_default not in (None, (), "") else ""
    return f"| {spelled} | {default} | {plain_text(one.help)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(options_page(), encoding="utf-8")
