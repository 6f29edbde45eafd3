"""`peftbench merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from .options import StoreOption, as_path, write


def merge_command(
    stores: Annotated[
        list[Path],
        typer.Argument(help="Stores of other machines, say.", metavar="STORE...", parser=as_path("STORE")),
    ],
    store: StoreOption = Path(defaults.STORE),
) -> None:
    """Bring the results of several stores together: each run once; a status of 1 if two results of a run differ."""
    from ..records.merge import merge
    from ..records.store import Store

    found = merge([Store(one) for one in stores], Store(store))
    for conflict in found.conflicts:
        write(f"{conflict}\n")
    write(f"{store}: {found.taken:,} results taken, {found.held:,} were there already\n")
    raise typer.Exit(1 if found.conflicts else 0)
