"""`peftbench new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import as_path, plugins_of, write


def new_command(
    kind: Annotated[str | None, typer.Argument(help="What to write: method or suite.")] = None,
    name: Annotated[str | None, typer.Argument(help="Its name: lower case, digits and dashes.")] = None,
    to: Annotated[
        Path, typer.Option("--to", help="Folder of what is written.", parser=as_path("--to"))
    ] = Path(),
) -> None:
    """Write a working method of your own in one file, with its test and marks where to edit, or a suite with comments."""
    from .scaffold import new

    write(new(kind, name, to, [Path(p) for p in plugins_of(None)]))
