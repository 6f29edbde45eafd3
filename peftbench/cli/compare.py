"""`peftbench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import OutOption, as_path, uncollected, write


def compare_command(
    a: Annotated[
        Path, typer.Argument(help="The store before the change, or one run's folder.", parser=as_path("A"))
    ],
    b: Annotated[Path, typer.Argument(help="The store after the change.", parser=as_path("B"))],
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
    """Compare two stores, paired by method, task, model and seed; a gate for continuous integration."""
    from ..records.results import results_at
    from ..render.pairs import check_comparable, pairs_text
    from ..tables.gate import judge, limit_of, status_of
    from ..tables.pairs import pair

    limits = [limit_of(text) for text in fail_on or ()]
    with uncollected():
        paired = pair(results_at(a), results_at(b))
        check_comparable(paired, force)
        verdicts = judge(limits, paired.pairs, paired.gone)
    write(pairs_text(paired, verdicts, str(a), str(b)), out)
    raise typer.Exit(status_of(verdicts))
