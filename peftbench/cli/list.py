"""`peftbench list`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..errors import UsageError
from ..finite import finite
from ..option import one_of
from .options import PluginsOption, StoreOption, plugins_of, write


def list_command(
    what: Annotated[str, typer.Argument(help="methods, tasks, models, reports, suites or runs.")],
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="text or json; for methods also markdown, with formulas and model families."
        ),
    ] = "text",
) -> None:
    """List methods, tasks or reports with their fields, starter models, suites, or the runs of a store."""
    import json

    from .listing import listing

    one_of("--format", form, ("text", "json", "markdown"))
    if form == "markdown" and what != "methods":
        raise UsageError("--format markdown works only for `peftbench list methods`; write text or json")
    rows = listing(what, store, plugins_of(plugins))
    if form == "markdown":
        from ..inspection.methods_table import methods_table
        from ..plugins import registry

        write(methods_table(registry.load("method").values()))
    elif form == "json":
        write(json.dumps(finite(rows), indent=1) + "\n")
    elif rows:
        from .listing import as_text

        write(as_text(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
