"""`peftbench analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..finite import finite
from ..option import one_of
from .options import OutOption, PluginsOption, StoreOption, plugins_of, write


def analyze_command(
    run: Annotated[
        str,
        typer.Argument(
            help="The first characters of a run's key, or a folder or hub id of what the PEFT library saved."
        ),
    ],
    other: Annotated[
        str | None, typer.Argument(help="A second one, to see which directions both share.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only this role (query), or modules with this in their name (layer.3).")
    ] = None,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    form: Annotated[str, typer.Option("--format", help="text, or json with all values.")] = "text",
    out: OutOption = None,
) -> None:
    """Analyze low-rank updates: their rank, their relation to the weights, and the directions that two of them share."""
    import json

    from ..engine.answers import ask
    from ..engine.jobs import Analyze
    from ..engine.named import engine_named
    from ..inspection.stored_runs import analyzable
    from ..render.analysis import analysis_text

    one_of("--format", form, ("text", "json"))
    one = str(analyzable(run, store))
    two = None if other is None else str(analyzable(other, store))
    with engine_named() as engine:
        found = ask(Analyze(one, two, only, plugins_of(plugins)), engine)
    write(analysis_text(found) if form == "text" else json.dumps(finite(found), indent=1) + "\n", out)
