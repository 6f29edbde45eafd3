"""The commands that read what is stored: report, compare, show, verify, analyze, export."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from . import defaults
from .errors import UsageError
from .options import (
    DataDirOption,
    FormatOption,
    OutOption,
    PluginsOption,
    StoreOption,
    choice,
    folder_of,
    plugins_of,
    write,
)

app = typer.Typer()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing of thousands of records is let go before the end: Python's collector would walk them over and over."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@app.command("report")
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
    from . import advise as advice
    from . import published_text
    from .api import render, tables
    from .columns import arranged
    from .published_rows import published_rows
    from .stored_results import stored_results

    limits = advice.limits(max_vram, max_slowdown, max_stored, max_trained)
    if limits != advice.ANYTHING and not advise:
        raise UsageError("--max-vram and its likes are limits of --advise; add it, or leave them out")
    if published and (advise or report != defaults.REPORT):
        raise UsageError(f"--published goes with --format {defaults.REPORT} alone")
    printed = [row for name in published or () for row in published_rows(name)]
    with _uncollected():
        found, reference = stored_results(store, baseline)
        if advise:
            made: str | bytes = advice.text_of(advice.advise(found, reference, limits))
        else:
            shown = arranged(tables(found, reference), columns, sort)
            made = render(shown, report)
            if printed and isinstance(made, str):
                made += "\n" + published_text.text_of(printed, shown)
    write(made, out)


@app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="The store that was before, or one run's folder.")],
    b: Annotated[Path, typer.Argument(help="The store that is now.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="METRIC:CHANGE as in accuracy:-1.0 or latency:+5%: status 1 beyond it, 3 if undecided."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Although device, data or budget differ.")] = False,
    out: OutOption = None,
) -> None:
    """Compare two stores, paired by method, task, model and seed; a gate for continuous integration."""
    from .gate import judge, limit_of, status_of
    from .pairs import pair
    from .pairs_text import check, text_of
    from .stored_results import results_at

    limits = [limit_of(text) for text in fail_on or ()]
    with _uncollected():
        paired = pair(results_at(a), results_at(b))
        check(paired, force)
        verdicts = judge(limits, paired.pairs, paired.only_a)
    write(text_of(paired, verdicts, str(a), str(b)), out)
    raise typer.Exit(status_of(verdicts))


@app.command("show")
def show_command(
    run: Annotated[str, typer.Argument(help="The first characters of a run's key (peftbench list runs).")],
    store: StoreOption = Path(defaults.STORE),
) -> None:
    """Everything that is known of one run."""
    from .listing import show
    from .store import Store

    typer.echo(show(Store(store).find(run)))


@app.command("verify")
def verify_command(
    run: Annotated[str, typer.Argument(help="The first characters of a run's key (peftbench list runs).")],
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Do a stored run again: reproduced bit for bit, within its interval, or not (status 1), and what differs."""
    from .engine import ask, worker
    from .verify_text import NOT_REPRODUCED, job_of, text_of

    job, record = job_of(store, run, plugins_of(plugins), folder_of(data_dir))
    with worker() as works:
        verdict = ask(job, works)["verdict"]
    typer.echo(text_of(verdict, bool((record.metric or {}).get("is_share"))), nl=False)
    if verdict["outcome"] == NOT_REPRODUCED:
        raise typer.Exit(1)


@app.command("analyze")
def analyze_command(
    run: Annotated[
        str,
        typer.Argument(help="The first characters of a run's key, or a folder that the PEFT library saved."),
    ],
    other: Annotated[
        str | None, typer.Argument(help="Another one, to see which directions they share.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="A role as in query, or a part of a module's name.")
    ] = None,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    form: Annotated[str, typer.Option("--format", help="text, or json with every value.")] = "text",
    out: OutOption = None,
) -> None:
    """Low-rank updates: their rank, their relation to the weights, and the directions that two of them share."""
    import json

    from .analysis.text import folder_of as place_of
    from .analysis.text import text_of
    from .engine import ask, worker

    choice("format", form, ("text", "json"))
    job = {
        "job": "analyze",
        "one": str(place_of(run, store)),
        "other": None if other is None else str(place_of(other, store)),
        "only": only,
        "plugins": plugins_of(plugins),
    }
    with worker() as works:
        found = ask(job, works)
    write(text_of(found) if form == "text" else json.dumps(found, indent=1) + "\n", out)


@app.command("export")
def export_command(
    run: Annotated[str, typer.Argument(help="The first characters of a run's key (peftbench list runs).")],
    to: Annotated[Path, typer.Option("--to", help="A folder that is new or empty.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="A plain transformers model instead of the PEFT library's files.")
    ] = False,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
) -> None:
    """Write what a run trained in the PEFT library's format, or merged into a plain model."""
    from .engine import ask, worker
    from .export import find

    stored = find(store, run, to)
    job = {
        "job": "export",
        "folder": str(stored.folder.resolve()),
        "to": str(to.expanduser().resolve()),
        "merged": merged,
        "plugins": plugins_of(plugins),
    }
    with worker() as works:
        answer = ask(job, works)
    typer.echo(f"{to}: {', '.join(answer['files'])}")
