"""`peftbench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import OutOption, as_path, uncollected, write


def compare_command(
    a: Annotated[
        Path, typer.Argument(help="The store before the change, or one run's folder.", parser=as_path("A"))
    ],
    others: Annotated[
        list[Path],
        typer.Argument(
            metavar="B...",
            help="The store after the change; several are shown side by side, each against A.",
            parser=as_path("B"),
        ),
    ],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit, METRIC:CHANGE, as in accuracy:-1.0 or latency:+5%: status 1 if exceeded, 3 if undecided."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare even if device, data or budget differ.")
    ] = False,
    out: OutOption = None,
) -> None:
    """Compare stores, paired by method, task, model and seed; with two, a gate for continuous integration."""
    from ..records.results import results_at
    from ..render.over_time import over_time_text
    from ..render.pairs import check_comparable, pairs_text
    from ..tables.gate import judge, limit_of, status_of
    from ..tables.pairs import pair

    limits = [limit_of(text) for text in fail_on or ()]
    if limits and len(others) > 1:
        raise UsageError("--fail-on judges one store against another; give two of them")
    with uncollected():
        first = results_at(a)
        compared = {str(place): pair(first, results_at(place)) for place in others}
        for name, paired in compared.items():
            check_comparable(paired, force, *((str(a), name) if len(others) > 1 else ("A", "B")))
    if len(others) > 1:
        write(over_time_text(compared, str(a)), out)
        return
    ((name, paired),) = compared.items()
    verdicts = judge(limits, paired.pairs, paired.gone)
    write(pairs_text(paired, verdicts, str(a), name), out)
    raise typer.Exit(status_of(verdicts))
