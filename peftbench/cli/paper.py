"""`peftbench paper`: the LoRA paper's tables, figures and claims, each as a command."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..errors import UsageError, unknown
from .options import DataDirOption, PluginsOption, QuietOption, StoreOption, choice, folder_of, plugins_of

LIST = "list"


def paper_command(
    name: Annotated[str, typer.Argument(help="An experiment, or list for their names.")],
    scale: Annotated[
        str, typer.Option(help="cpu: minutes on two cores; small: an hour on one GPU; full: the paper's own.")
    ] = "cpu",
    data_dir: DataDirOption = None,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    model: Annotated[
        str | None, typer.Option(help="In place of the scale's own: a name, a folder or a hub id.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32 or bfloat16, in place of the experiment's own."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for NAME.md, its pictures and NAME.html; default: Markdown to standard output."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Status 1 where a statement is contradicted.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """An experiment of the LoRA paper, printed figures beside, with a verdict on each statement of the paper."""
    from ..engine.named import engine_named
    from ..experiments.html import page_html
    from ..experiments.markdown import page_markdown, pictures_of
    from ..experiments.page import CONTRADICTED, SCALES, Asked, Page
    from ..plugins import loader, registry

    loader.load_plugins(Path(p) for p in plugins_of(plugins))
    if name == LIST:
        for one in sorted(registry.load("experiment").values(), key=lambda entry: _in_order(entry.name)):
            typer.echo(f"{one.name:10} {one.declared}")
        return
    known = registry.load("experiment")
    if name not in known:
        raise unknown("experiment", name, known, "peftbench paper list")
    choice("scale", scale, SCALES)
    if dtype is not None:
        choice("dtype", dtype, ("float32", "bfloat16"))
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--out {str(out)!r} can't be made: {error.strerror}; name a folder for the page"
            ) from error

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    with engine_named() as engine:
        asked = Asked(scale, store, engine, folder_of(data_dir), model, dtype, say)
        page: Page = known[name].target(asked)
    if out is None:
        typer.echo(page_markdown(page), nl=False)
    else:
        stem = name.replace("/", "-")
        (out / f"{stem}.md").write_text(page_markdown(page, stem), encoding="utf-8")
        for file, picture in pictures_of(page, stem).items():
            (out / file).write_text(picture.svg, encoding="utf-8")
        (out / f"{stem}.html").write_text(page_html(page), encoding="utf-8")
    if strict and CONTRADICTED in page.verdicts:
        raise typer.Exit(1)


def _in_order(name: str) -> tuple[str, list[str | int]]:
    """By collection, the built-in one first; table2 before table15."""
    of, _, own = name.rpartition("/")
    return of, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", own)]
