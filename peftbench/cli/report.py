"""`peftbench report`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..errors import UsageError
from ..tables.quantities import limited
from .options import FormatOption, OutOption, as_path, uncollected, write


def report_command(
    store: Annotated[
        list[Path] | None,
        typer.Option(
            "--store",
            help="Folder where results are stored; several, one after the other, are one table.",
            parser=as_path("--store"),
            show_default=defaults.STORE,
        ),
    ] = None,
    report: FormatOption = defaults.REPORT,
    baseline: Annotated[
        str,
        typer.Option(
            help="Method that all others are compared with, or one of its learning rates as in 'lora at 0.02'."
        ),
    ] = defaults.REFERENCE,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns to show, as in method,score,peak,macro_f1; default: all that have a value."
        ),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Column to sort by, as in peak or score:desc.")] = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Say which method to use, within these limits:")
    ] = False,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Published results to show below: lora-paper, a CSV file, or PEFT's result files."),
    ] = None,
    out: OutOption = None,
    **words: str | None,  # of the limits, which are declared with their measures
) -> None:
    """Print the tables of everything in a store."""
    from ..inspection.stored_runs import reference_among
    from ..plugins.rendering import render
    from ..records.results import stored_results
    from ..render.advice import advice_text
    from ..render.columns import arranged
    from ..render.literature import literature_text
    from ..tables.advice import advise_on, limits_of
    from ..tables.literature import published_rows
    from ..tables.tabulate import tables_of

    limits = limits_of({name: words[limit.parameter] for name, (_, limit) in limited().items()})
    if limits and not advise:
        raise UsageError("--max-vram and the other limits belong to --advise; add it, or leave them out")
    if advise and (columns is not None or sort is not None or report != defaults.REPORT):
        raise UsageError(
            "--advise answers in words: --format, --columns and --sort are of tables; leave them out"
        )
    if published and (advise or report not in (defaults.REPORT, defaults.WIDE_REPORT)):
        raise UsageError(f"--published works only with --format {defaults.WIDE_REPORT}")
    printed = [row for name in published or () for row in published_rows(name)]
    with uncollected():
        found = stored_results(*(store or [Path(defaults.STORE)]))
        reference = reference_among(found, baseline)
        if advise:
            made: str | bytes = advice_text(advise_on(found, reference, limits))
        else:
            shown = arranged(tables_of(found, reference), columns, sort)
            made = render(shown, report, out is None)
            if printed and isinstance(made, str):
                made += "\n" + literature_text(printed, shown)
    write(made, out)


def limit_options() -> list[inspect.Parameter]:
    """An option for each measure that `--advise` may be limited by."""
    return [
        inspect.Parameter(
            limit.parameter,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[str | None, typer.Option(limit.option, help=limit.help)],
        )
        for _, limit in limited().values()
    ]


def _with_limits(command: Callable[..., None]) -> inspect.Signature:
    """Its parameters, with the limits behind `advise`, in the place of `words`."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "words"]
    behind = [parameter.name for parameter in own].index("advise") + 1
    return inspect.Signature([*own[:behind], *limit_options(), *own[behind:]])


report_command.__signature__ = _with_limits(report_command)  # type: ignore[attr-defined]
