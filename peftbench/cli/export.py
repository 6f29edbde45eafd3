"""`peftbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from .options import PluginsOption, StoreOption, as_path, plugins_of, write


def export_command(
    run: Annotated[
        str, typer.Argument(help="The first characters of a run's key (peftbench list runs), or its folder.")
    ],
    to: Annotated[Path, typer.Option("--to", help="A folder that is new or empty.", parser=as_path("--to"))],
    merged: Annotated[
        bool, typer.Option("--merged", help="A plain transformers model instead of the PEFT library's files.")
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(
            "--step",
            help="The weights after this step, of a run with --save-every; default: the last ones.",
            min=1,
        ),
    ] = None,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
) -> None:
    """Export what a run trained: in the PEFT library's format, or merged into a plain model."""
    from ..engine.answers import ask
    from ..engine.jobs import Export
    from ..engine.named import engine_named
    from ..inspection.stored_runs import exportable

    stored = exportable(store, run, to, step)
    folder, target = str(stored.folder.resolve()), str(to.resolve())
    with engine_named() as engine:
        answer = ask(Export(folder, target, merged, step, plugins_of(plugins)), engine)
    write(f"{to}: {', '.join(answer['files'])}\n")
