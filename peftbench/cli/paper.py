"""`peftbench paper`: the LoRA paper's tables, figures and claims, each as a command; those of other collections too."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError, unknown
from ..option import Option, option_of, options_of, read
from ..progress import notify
from .options import write

LIST = "list"
ARGUMENTS = (
    inspect.Parameter(
        "name",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            str, typer.Argument(metavar="NAME", help="An experiment; `list` shows all names.")
        ],
    ),
)


def options() -> list[Option]:
    from ..comparison.session import Printed, Session
    from ..experiments.request import PageRequest

    session = [option_of(Session, "engine"), option_of(Session, "store"), option_of(Printed, "quiet")]
    return [*options_of(PageRequest), *session]


def paper_command(given: Mapping[str, Any]) -> None:
    """Run an experiment of the LoRA paper: its figures beside yours, with a verdict on each statement of the paper."""
    from ..comparison.session import Printed, Session
    from ..engine.named import engine_named
    from ..experiments.page import CONTRADICTED, Asked, Page
    from ..experiments.request import PageRequest
    from ..plugins import loader, registry

    name = str(given["name"])
    request, session, printed = read(PageRequest, given), read(Session, given), read(Printed, given)
    loader.load_plugins(Path(p) for p in request.plugins)
    known = registry.load("experiment")
    if name == LIST:
        for one in sorted(known.values(), key=lambda entry: _in_order(entry.name)):
            write(f"{one.name:10} {one.declared}\n")
        return
    if name not in known:
        raise unknown("experiment", name, known, "peftbench paper list")
    folder = None if request.out is None else _made(Path(request.out))

    def say(text: str) -> None:
        if not printed.quiet:
            notify(text)

    with engine_named(session.engine) as engine:
        store = Path(session.store)
        asked = Asked(request.scale, store, engine, request.data_dir, request.model, request.dtype, say)
        page: Page = known[name].target(asked)
    _write(page, name, folder)
    if request.strict and CONTRADICTED in page.verdicts:
        raise typer.Exit(1)


def _made(folder: Path) -> Path:
    """The folder of the page: tried before the work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {str(folder)!r} can't be made: {error.strerror}; name a folder for the page"
        ) from error
    return folder


def _write(page: Any, name: str, folder: Path | None) -> None:
    from ..experiments.html import page_html
    from ..experiments.markdown import page_markdown, pictures_of

    if folder is None:
        write(page_markdown(page))
        return
    stem = name.replace("/", "-")
    (folder / f"{stem}.md").write_text(page_markdown(page, stem), encoding="utf-8")
    for file, picture in pictures_of(page, stem).items():
        (folder / file).write_text(picture.svg, encoding="utf-8")
    (folder / f"{stem}.html").write_text(page_html(page), encoding="utf-8")


def _in_order(name: str) -> tuple[str, list[str | int]]:
    """By collection, the built-in one first; table2 before table15."""
    of, _, own = name.rpartition("/")
    return of, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", own)]
