"""`peftbench verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from .options import DataDirOption, PluginsOption, StoreOption, folder_of, plugins_of, write


def verify_command(
    run: Annotated[
        str, typer.Argument(help="The first characters of a run's key (peftbench list runs), or its folder.")
    ],
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Repeat a stored run: is the result the same bit for bit, within its interval, or not (status 1)? What differs?"""
    from ..engine.answers import ask
    from ..engine.jobs import Verify
    from ..engine.named import engine_named
    from ..inspection.stored_runs import verifiable
    from ..records.record import NOT_REPRODUCED
    from ..render.verdict import verdict_text

    stored = verifiable(store, run)
    record, folder = stored.record, str(stored.folder.resolve())
    data = folder_of(data_dir) or record.run.data_dir
    job = Verify(folder, plugins_of(plugins), data, record.environment.get("threads"))
    with engine_named() as engine:
        verdict = ask(job, engine)["verdict"]
    write(verdict_text(verdict, bool((record.metric or {}).get("is_share"))))
    if verdict["outcome"] == NOT_REPRODUCED:
        raise typer.Exit(1)
