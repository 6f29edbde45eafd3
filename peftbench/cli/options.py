"""From the words of the command line to values, with errors that say what to write."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..comparison.request import Comparison
from ..comparison.session import Printed, Session
from ..errors import UsageError
from ..option import option_of
from ..option_types import given_path, plugin_paths
from ..printable import printable
from ..records.runs import resolved_plugins
from .completion import completer


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing of thousands of records is let go before the end: Python's collector would walk them over and over."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def as_path(option: str) -> Callable[[Any], Path]:
    """The parser of a path that is given to this option."""

    def path(given: Any) -> Path:
        return given_path(option, given)

    return path


def _declared(cls: type[Any], field: str, parser: Callable[[Any], Any] | None = None) -> Any:
    """An option that other commands have too, as it is declared for a comparison."""
    one = option_of(cls, field)
    return typer.Option(one.flag, help=one.help, autocompletion=completer(one), parser=parser)


StoreOption = Annotated[Path, _declared(Session, "store", as_path("--store"))]
FormatOption = Annotated[str, _declared(Printed, "report")]
DataDirOption = Annotated[Path | None, _declared(Comparison, "data_dir", as_path("--data-dir"))]
PluginsOption = Annotated[list[Path] | None, _declared(Comparison, "plugins", as_path("--plugins"))]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write to this file instead of stdout.", parser=as_path("--out"))
]
MOST_ON_A_TERMINAL = 1_000_000  # characters


def folder_of(path: Path | None) -> str | None:
    """Of --data-dir, as a comparison takes it."""
    folder: str | None = option_of(Comparison, "data_dir").value(path)
    return folder


def plugins_of(given: list[Path] | None) -> tuple[str, ...]:
    """Those of the command line and those of PEFTBENCH_PLUGINS."""
    return resolved_plugins(plugin_paths(given or []))


def load_reports(plugins: Iterable[str]) -> None:
    """Import the reports of plugin folders: all of the plugins that this process needs."""
    from ..plugins import loader

    loader.load_plugins(folder for path in plugins if (folder := Path(path) / "reports").is_dir())


def write(made: str | bytes, out: Path | None = None) -> None:
    """To a file, or to stdout.

    Raises:
        UsageError: the file or stdout can't be written, or nobody could read it on a terminal.
    """
    try:
        if out is not None:  # an error's text may hold bytes that are none
            out.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "replace"))
            return
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} can't be written: {error.strerror}") from error
    if sys.stdout.isatty() and (isinstance(made, bytes) or len(made) > MOST_ON_A_TERMINAL):
        raise UsageError("this report is a file, not for a terminal; `peftbench report --format ... --out FILE` writes it")  # fmt: skip
    try:
        typer.echo(printable(made, styled=True) if isinstance(made, str) else made, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"stdout can't be written: {error.strerror}") from error
