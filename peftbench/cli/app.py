"""The command line. Tables go to stdout, progress and notices to stderr.

Exit status: 0 all runs are good; 1 some run failed, is not supported or breaks a claim (its row is in the table), or a
limit of `compare` is broken; 2 the command is wrong, in one line; 3 a limit of `compare` is undecided; 130 interrupted,
everything finished is kept.
"""

from __future__ import annotations

import ast
import errno
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import PeftbenchError, unknown
from ..progress import notify
from .examples import FIRST_STEPS
from .help import PanelCommand

# Recent typer carries its own copy of click, older typer imports click: ask typer for the class either way.
_CLICK_ERROR: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
# A command is the function NAME_command of the file NAME.py beside this one.
COMMANDS = (
    "run", "latency", "report", "compare", "show", "verify", "analyze", "export", "merge", "paper", "list", "check", "new", "doctor",
)  # fmt: skip


class LazyGroup(TyperGroup):
    """All commands, each imported and built when it is asked for: that is most of the time that the help would take."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _built(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise unknown("command", args[0], COMMANDS, "peftbench --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in COMMANDS])


def _built(name: str) -> Any:
    """What typer makes of a command; where its options have declarations, its signature is made from them."""
    from .derived import with_options

    module = importlib.import_module(f".{name}", __package__)
    function = getattr(module, f"{name}_command")
    if hasattr(module, "options"):
        function = with_options(function, module.options(), getattr(module, "ARGUMENTS", ()))
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name, cls=PanelCommand)(function)
    return typer.main.get_command(alone)


def _summary(name: str) -> str:
    """The docstring of a command, read without importing it."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    command = next(node for node in functions if node.name == f"{name}_command")
    return ast.get_docstring(command) or ""


app = typer.Typer(cls=LazyGroup, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def peftbench() -> None:
    """Compare fine-tuning methods on your model and data: quality, memory, time and latency."""


COMPLETION = "_PEFTBENCH_COMPLETE"  # what a shell sets that asks what may be typed


def first_steps() -> str:
    """What is said where nothing was asked: three commands to try."""
    steps = "".join(f"  {command}\n      {why}\n" for command, why in FIRST_STEPS)
    return f"{peftbench.__doc__}\n\n{steps}\nAll commands: peftbench --help\n"


def main(arguments: list[str] | None = None) -> None:
    """The program `peftbench`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    try:
        if arguments or COMPLETION in os.environ:
            status = app(args=arguments, prog_name="peftbench", standalone_mode=False)
        else:
            typer.echo(first_steps(), nl=False)
            status = 0
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except _CLICK_ERROR as error:
        status = _wrong(error.format_message().rstrip(".") + _further(error))
    except PeftbenchError as error:
        status = _wrong(str(error))
    except BrokenPipeError:  # the reader of our output went away
        status = 0
    except OSError as error:
        status = _wrong(_said(error))
    if status == 130:  # recent typer turns Ctrl-C into this status itself
        _interrupted()
    _drop_unwritten()
    sys.exit(status if isinstance(status, int) else 0)


def _open_closed_streams() -> None:
    """Where a standard stream is closed, let writing to it fail by itself, and no other file take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            os.dup2(null, number)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of an encoding that may not have every character
            stream.reconfigure(errors="backslashreplace")


def _drop_unwritten() -> None:
    """What stdout could not take, Python would try again at its end, and fail with a status of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said(error: OSError) -> str:
    """Of an error that nobody has turned into a better line."""
    said = error.strerror or str(error)
    if error.filename is not None:
        return f"{str(error.filename)!r}: {said}"
    of_stdout = error.errno in (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT)
    return f"stdout can't be written: {said}" if of_stdout else said


def _wrong(message: str) -> int:
    notify(f"peftbench: {' '.join(message.split())}")
    return 2


def _further(error: Any) -> str:
    """Where to read on, after a line that says what was wrong with the command's words."""
    path = getattr(getattr(error, "ctx", None), "command_path", None)
    return f"; see {path} --help" if path and "--help" not in error.format_message() else ""


def _interrupted() -> None:
    notify("peftbench: interrupted; finished runs are kept, the same command carries on")
