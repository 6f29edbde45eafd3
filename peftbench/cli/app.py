"""The command line. Tables go to stdout, progress and notices to stderr.

Exit status: 0 all runs are good; 1 some run failed, is not supported or breaks a claim (its row is in the table), or a
limit of `compare` is broken; 2 the command is wrong, in one line; 3 a limit of `compare` is undecided; 130 interrupted,
everything finished is kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import PeftbenchError
from . import analyze, check, compare, doctor, export, latency, new, paper, report, run, show, verify
from . import list as list_

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare fine-tuning methods on your model and data: quality, memory, time and latency.",
)


# Recent typer carries its own copy of click, older typer imports click: ask typer for the class either way.
_CLICK_ERROR: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run_command,
    "latency": latency.latency_command,
    "report": report.report_command,
    "compare": compare.compare_command,
    "show": show.show_command,
    "verify": verify.verify_command,
    "analyze": analyze.analyze_command,
    "export": export.export_command,
    "paper": paper.paper_command,
    "list": list_.list_command,
    "check": check.check_command,
    "new": new.new_command,
    "doctor": doctor.doctor_command,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: list[str] | None = None) -> None:
    """The program `peftbench`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(args=arguments or ["--help"], prog_name="peftbench", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except _CLICK_ERROR as error:
        status = _wrong(error.format_message())
    except PeftbenchError as error:
        status = _wrong(str(error))
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    if status == 130:  # recent typer turns Ctrl-C into this status itself
        _interrupted()
    sys.exit(status if isinstance(status, int) else 0)


def _wrong(message: str) -> int:
    print("peftbench:", " ".join(message.split()), file=sys.stderr)
    return 2


def _interrupted() -> None:
    print("peftbench: interrupted; what is finished is kept, the same command carries on", file=sys.stderr)
