"""`peftbench check`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataDirOption, PluginsOption, folder_of, plugins_of, write


def check_command(
    what: Annotated[
        str,
        typer.Argument(
            help="A method or a task, as in lora:rank=4, or a Python or TOML file with methods or tasks."
        ),
    ],
    plugins: PluginsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Check what a method claims, on tiny CPU models of three families, or a task's splits and metrics."""
    from ..engine.answers import ask
    from ..engine.jobs import CheckPlugin
    from ..engine.named import engine_named
    from ..render.checks import checks_text

    with engine_named() as engine:
        answer = ask(CheckPlugin(what, plugins_of(plugins), folder_of(data_dir)), engine)
    write(checks_text(answer["checked"]))
    if any(one["outcome"] == "fail" for one in answer["checked"]):
        raise typer.Exit(1)
