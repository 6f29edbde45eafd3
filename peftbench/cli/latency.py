"""`peftbench latency`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from .options import (
    FormatOption,
    PluginsOption,
    QuietOption,
    StoreOption,
    cells_of,
    check_timeout,
    choice,
    plugins_of,
    report_plugins_of,
)


def latency_command(
    methods: Annotated[str, typer.Option(help="SPEC,SPEC,... as in lora:rank=4,adapter.")] = defaults.METHODS,
    model: Annotated[
        str, typer.Option(help="Starter name, folder or hub id; several with commas. A config alone will do.")
    ] = defaults.MODEL,
    latency_grid: Annotated[
        str | None, typer.Option(help="Cells of batch x length, as in 1x32,4x32.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Fresh processes.")] = defaults.LATENCY_PROCESSES,
    rounds: Annotated[int, typer.Option(help="Timed rounds of each process.")] = 40,
    execution: Annotated[str, typer.Option(help="eager, compile (torch.compile) or cuda-graphs.")] = "eager",
    new_tokens: Annotated[
        int | None, typer.Option(help="Tokens that a generative model decodes a round; 0: none.")
    ] = None,
    tasks: Annotated[
        int, typer.Option(help="Also switch between so many tasks' adapters, and mix them in a batch.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Weights and compute: float32 or bfloat16.")] = "float32",
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a process is ended.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failures again.")] = False,
    report: FormatOption = defaults.REPORT,
    quiet: QuietOption = False,
) -> None:
    """Time inference: base, every method unmerged and merged, in turns over one shared base."""
    from .. import spec
    from ..comparison.compare import compare_latency
    from ..comparison.latency_request import LatencyRequest, check_latency_request
    from ..engine.named import engine_named
    from ..engine.sweep import Execution
    from ..plugins import loader
    from ..plugins.rendering import render_latency
    from ..records.store import Store
    from ..tables.latency import latency_tables
    from .display import Display

    asked = LatencyRequest(
        methods=tuple(str(s) for s in spec.parse_list(methods)),
        models=tuple(name.strip() for name in model.split(",") if name.strip()),
        device=choice("device", device, ("auto", "cpu", "cuda")),
        dtype=choice("dtype", dtype, ("float32", "bfloat16")),
        cells=cells_of(latency_grid),
        processes=processes,
        rounds=rounds,
        execution=execution,
        new_tokens=new_tokens,
        tasks=tasks,
        plugins=plugins_of(plugins),
    )
    check_latency_request(asked)
    check_timeout(timeout)
    loader.load_plugins(Path(p) for p in report_plugins_of(plugins))
    render_latency([], report)
    with engine_named() as engine, Display(quiet) as display:
        how = Execution(timeout_s=timeout, retry_failed=retry_failed)
        records = compare_latency(asked, Store(store), engine, how, display)
    typer.echo(render_latency(latency_tables(records), report), nl=False)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)
