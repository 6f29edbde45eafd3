"""`peftbench run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ..option import Option, options_of, read
from .options import load_reports, write


def options() -> list[Option]:
    """What the command takes."""
    from ..comparison.session import RUN_OPTIONS, Printed

    return [*RUN_OPTIONS, *options_of(Printed)]


def run_command(given: Mapping[str, Any]) -> None:
    """Run a comparison and print its table; what the store already holds is not run again."""
    from ..comparison.compare import compare, planned_runs
    from ..comparison.dry_run import plan_text
    from ..comparison.request import Comparison, check_request
    from ..comparison.session import Printed, Session
    from ..engine.named import engine_named
    from ..engine.sweep import Execution
    from ..plugins.rendering import check_report, render
    from ..records.store import Store
    from .display import Display

    asked, how = read(Comparison, given), read(Execution, given)
    session, printed = read(Session, given), read(Printed, given)
    check_request(asked)
    load_reports(asked.plugins)
    check_report(printed.report)
    store = Store(Path(session.store))
    with engine_named(session.engine) as engine:
        if session.dry_run:
            write(plan_text(planned_runs(asked, engine, how.timeout_s), asked.trials, store, how))
            return
        with Display(printed.quiet) as display:
            compared = compare(asked, store, engine, how, display)
    write(render(compared.tables, printed.report))
    if not compared.good:
        raise typer.Exit(1)
