"""`peftbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..errors import UsageError
from .options import FormatOption, OutOption, StoreOption, uncollected, write


def report_command(
    store: StoreOption = Path(defaults.STORE),
    report: FormatOption = defaults.REPORT,
    baseline: Annotated[str, typer.Option(help="SPEC that differences are taken to.")] = defaults.REFERENCE,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Those to show, as in method,score,peak,macro_f1; default: all that have something."
        ),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Column to sort by, as in peak or score:desc.")] = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Say which method to use, inside the limits that follow.")
    ] = False,
    max_vram: Annotated[str | None, typer.Option(help="Train peak, as in 16GB.")] = None,
    max_slowdown: Annotated[
        str | None, typer.Option(help="Of inference, merged where it merges, as in 2%.")
    ] = None,
    max_stored: Annotated[str | None, typer.Option(help="Of what a task keeps, as in 10MB.")] = None,
    max_trained: Annotated[str | None, typer.Option(help="Numbers that train beside the head.")] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Printed results to show below: lora-paper, a CSV file, or PEFT's result files."),
    ] = None,
    out: OutOption = None,
) -> None:
    """Print the tables of everything in a store."""
    from ..inspection.stored_runs import reference_among
    from ..plugins.rendering import render
    from ..records.results import stored_results
    from ..render.advice import advice_text
    from ..render.columns import arranged
    from ..render.literature import literature_text
    from ..tables.advice import ANYTHING, advise_on, limits_of
    from ..tables.literature import published_rows
    from ..tables.tabulate import tables_of

    limits = limits_of(max_vram, max_slowdown, max_stored, max_trained)
    if limits != ANYTHING and not advise:
        raise UsageError("--max-vram and its likes are limits of --advise; add it, or leave them out")
    if published and (advise or report != defaults.REPORT):
        raise UsageError(f"--published goes with --format {defaults.REPORT} alone")
    printed = [row for name in published or () for row in published_rows(name)]
    with uncollected():
        found = stored_results(store)
        reference = reference_among(found, baseline)
        if advise:
            made: str | bytes = advice_text(advise_on(found, reference, limits))
        else:
            shown = arranged(tables_of(found, reference), columns, sort)
            made = render(shown, report)
            if printed and isinstance(made, str):
                made += "\n" + literature_text(printed, shown)
    write(made, out)
