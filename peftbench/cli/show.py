"""`peftbench show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from .options import StoreOption, write


def show_command(
    run: Annotated[
        str, typer.Argument(help="The first characters of a run's key (peftbench list runs), or its folder.")
    ],
    store: StoreOption = Path(defaults.STORE),
) -> None:
    """Show everything that is known about one run."""
    from ..records.store import Store
    from .listing import show

    write(show(Store(store).find(run)) + "\n")
