"""`peftbench run`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import defaults
from ..errors import UsageError
from ..option import Option, options_of, read
from ..progress import notify
from .options import load_reports, write

if TYPE_CHECKING:
    from ..records.store import Store
    from ..tables.table import Table

PAGE = "report.html"
ARGUMENTS = (
    inspect.Parameter(
        "named",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, typer.Argument(metavar="[SUITE]", help="The same as --suite.")],
    ),
)


def options() -> list[Option]:
    """What the command takes."""
    from ..comparison.session import RUN_OPTIONS, Printed

    return [*RUN_OPTIONS, *options_of(Printed)]


def _suite_in(given: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What was given beside a suite, and the suite."""
    words = dict(given)
    named, suite = words.pop("named"), words.pop("suite", None)
    if None not in (named, suite):
        raise UsageError(f"{named!r} and --suite {suite!r} are two suites; name one")
    return words, named if suite is None else suite


def _write_page(tables: Sequence[Table], store: Store) -> None:
    """A page for a browser, in the store's folder: beside it a user may have a file of that name."""
    from ..plugins.rendering import render

    file = store.root / PAGE
    try:
        file.write_text(str(render(tables, defaults.PAGE_REPORT)), encoding="utf-8", errors="replace")
    except OSError as error:
        notify(f"the page {str(file)!r} can't be written: {error.strerror}")
    else:
        notify(f"a page with plots and every run: {file}")


def _said_of_part(shard: tuple[int, int], count: int, store: str) -> str:
    number, parts = shard
    return (
        f"part {number} of {parts}: its {count:,} runs are in {store}; `peftbench merge STORE...` brings the parts together, and then the same "
        "command without --shard prints the table\n"
    )


def run_command(given: Mapping[str, Any]) -> None:
    """Run a comparison and print its table; stored results are not run again."""
    from ..comparison.compare import compare_all, planned_parts
    from ..comparison.dry_run import plan_text
    from ..comparison.session import Printed, Session
    from ..comparison.suite import Suite
    from ..engine.named import engine_named
    from ..engine.protocol import Scripted
    from ..engine.sweep import Execution
    from ..plugins.rendering import check_report, render
    from ..records.store import Store
    from .display import Display

    suite = Suite.of(*_suite_in(given))
    how, session = read(Execution, suite.words), read(Session, suite.words)
    printed = read(Printed, suite.words)
    suite.check_count(session.yes or session.dry_run)
    load_reports(suite.comparisons[0].plugins)
    check_report(printed.report)
    store = Store(Path(session.store))
    with engine_named(session.engine) as engine:
        if session.dry_run:
            write(plan_text(suite, planned_parts(suite, engine, how), store, how))
            if isinstance(engine, Scripted):
                write("\n" + engine.script())
            return
        with Display(printed.quiet) as display:
            compared = compare_all(suite, store, engine, how, display)
    if how.shard is None:
        tables = [table for one in compared for table in one.tables]
        write(render(tables, printed.report))
        if printed.report == defaults.REPORT and not printed.quiet:
            _write_page(tables, store)
    else:
        store.root.mkdir(parents=True, exist_ok=True)  # also of a part without runs: all parts are merged
        write(_said_of_part(how.shard, sum(len(one.planned) for one in compared), session.store))
    if not all(one.good for one in compared):
        raise typer.Exit(1)
