"""From the words of the command line to values, with errors that say what to write."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError, unknown


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing of thousands of records is let go before the end: Python's collector would walk them over and over."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


StoreOption = Annotated[Path, typer.Option("--store", help="Folder of results.")]
FormatOption = Annotated[str, typer.Option("--format", help="Report: see `peftbench list reports`.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write to this file instead of stdout.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Folder of published data sets, as in DIR/glue/sst2/train.jsonl.gz; else the hub."),
]
PluginsOption = Annotated[
    list[Path] | None,
    typer.Option("--plugins", help="A Python file or folder with methods, tasks or reports."),
]
MOST_ON_A_TERMINAL = 1_000_000  # characters


def choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise unknown(f"value of --{option}:", value, choices, "one of " + ", ".join(choices))
    return value


def sizes_of(text: str) -> tuple[int | None, ...]:
    sizes: list[int | None] = []
    for size in (part.strip() for part in text.split(",") if part.strip()):
        if size.lower() != "all" and not size.isdecimal():
            raise UsageError(f"--train-size {size!r} is no number of items; write it as in 100,1000,all")
        sizes.append(None if size.lower() == "all" else int(size))
    return tuple(sizes)


def folder_of(path: Path | None) -> str | None:
    if path is not None and not path.expanduser().is_dir():
        raise UsageError(f"--data-dir {str(path)!r} is not a folder")
    return None if path is None else str(path.expanduser().resolve())


def check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout must be above 0 seconds, not {timeout:g}")


def cells_of(text: str | None) -> tuple[tuple[int, int], ...] | None:
    if text is None:
        return None
    if text.strip().lower() in ("", "none"):
        return ()
    cells = []
    for cell in text.split(","):
        batch, times, length = cell.strip().lower().partition("x")
        if not times or not batch.isdecimal() or not length.isdecimal() or not int(batch) or not int(length):
            raise UsageError(f"--latency-grid {cell.strip()!r} is not BATCHxLENGTH; write it as in 1x32,4x32")
        cells.append((int(batch), int(length)))
    return tuple(cells)


def plugins_of(given: list[Path] | None) -> tuple[str, ...]:
    """Those of the command line and those of PEFTBENCH_PLUGINS."""
    named = [part for part in os.environ.get("PEFTBENCH_PLUGINS", "").split(os.pathsep) if part]
    return tuple(str(path) for path in (given or [])) + tuple(named)


def report_plugins_of(given: list[Path] | None) -> list[Any]:
    """The plugin folders that hold reports: the only plugins that this process needs."""
    return [path for p in plugins_of(given) if (path := Path(p) / "reports").is_dir()]


def write(made: str | bytes, out: Path | None = None) -> None:
    """To a file, or to stdout.

    Raises:
        UsageError: the file can't be written, or nobody could read it on a terminal.
    """
    if isinstance(made, str):  # an error's text may hold bytes that are none
        made = made.encode("utf-8", "replace").decode("utf-8")
    try:
        if out is not None:
            out.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8"))
            return
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} can't be written: {error.strerror}") from error
    if sys.stdout.isatty() and (isinstance(made, bytes) or len(made) > MOST_ON_A_TERMINAL):
        raise UsageError("this report is a file, not for a terminal; `peftbench report --format ... --out FILE` writes it")  # fmt: skip
    typer.echo(made, nl=False)
