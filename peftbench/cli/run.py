"""`peftbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import defaults
from ..errors import UsageError
from .options import (
    DataDirOption,
    FormatOption,
    PluginsOption,
    QuietOption,
    StoreOption,
    cells_of,
    check_timeout,
    choice,
    folder_of,
    plugins_of,
    report_plugins_of,
    sizes_of,
    write,
)


def run_command(
    methods: Annotated[str, typer.Option(help="SPEC,SPEC,... as in lora:rank=4,adapter.")] = defaults.METHODS,
    model: Annotated[
        str, typer.Option(help="Starter name, folder or hub id; several with commas.")
    ] = defaults.MODEL,
    task: Annotated[str, typer.Option(help="SPEC,SPEC,... of tasks.")] = defaults.TASK,
    budget: Annotated[
        str, typer.Option(help="quick: 60 steps, 3 seeds, presets; standard: 1 epoch, 5 seeds, tuned.")
    ] = defaults.BUDGET,
    seeds: Annotated[int | None, typer.Option(help="Runs of each method; default: the budget's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; default: the budget's.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the training split, instead of --steps.")
    ] = None,
    tune: Annotated[
        int | None, typer.Option(help="Learning rates a method, tried on validation; 0: presets.")
    ] = None,
    until: Annotated[
        float | None, typer.Option(help="Add seeds until differences of so many points are resolved.")
    ] = None,
    max_seeds: Annotated[int, typer.Option(help="Where --until stops.")] = defaults.MAX_SEEDS,
    batch_size: Annotated[int, typer.Option(help="Items of an optimizer step.")] = defaults.BATCH_SIZE,
    accumulate: Annotated[int, typer.Option(help="Parts a batch is cut into, to save memory.")] = 1,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens; longer items are cut. Default: the task's, 48 for most.")
    ] = None,
    train_size: Annotated[
        str,
        typer.Option(
            help="Items of the training split, as in 100,1000,all: a table each, and one over them."
        ),
    ] = "all",
    attention: Annotated[
        str | None,
        typer.Option(
            help="The library's implementation: eager, sdpa, flash_attention_2, ...; default: the model's."
        ),
    ] = None,
    forgetting: Annotated[
        str | None,
        typer.Option(
            help="SPEC of a task: a language model's loss on its texts, before and after, as in xsum-1k."
        ),
    ] = None,
    checkpoint_activations: Annotated[
        bool,
        typer.Option(
            "--checkpoint-activations",
            help="Compute activations again for the backward pass: less memory, more time.",
        ),
    ] = False,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate of the methods asked for; default: presets.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Compute: auto, float32 or bfloat16.")] = "auto",
    data_dir: DataDirOption = None,
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    baselines: Annotated[bool, typer.Option(help="Add full fine-tuning and the head alone.")] = True,
    baseline: Annotated[
        str | None,
        typer.Option(help=f"SPEC that differences are taken to ({defaults.REFERENCE} by default)."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at once: threads are divided, GPUs given one each.")] = 1,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a run is ended.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failures again.")] = False,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep whole models too, not adapters alone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and run nothing.")] = False,
    latency_grid: Annotated[
        str | None, typer.Option(help="Cells of batch x length, as in 1x32,4x32; none to skip.")
    ] = None,
    curve: Annotated[int, typer.Option(help="Score validation at so many moments of training; 0: not.")] = 0,
    profile: Annotated[
        bool, typer.Option(help="Look inside a step of each method: memory by kind, arithmetic.")
    ] = True,
    report: FormatOption = defaults.REPORT,
    quiet: QuietOption = False,
) -> None:
    """Run a comparison and print its table; what the store already holds is not run again."""
    from .. import spec
    from ..comparison.compare import compare, plan
    from ..comparison.dry_run import plan_text
    from ..comparison.request import Comparison, check_request
    from ..engine.named import engine_named
    from ..engine.sweep import Execution
    from ..plugins import loader, registry
    from ..plugins.rendering import render
    from ..records.store import Store
    from .display import Display

    asked = Comparison(
        methods=tuple(str(s) for s in spec.parse_list(methods)),
        models=tuple(name.strip() for name in model.split(",") if name.strip()),
        tasks=tuple(str(s) for s in spec.parse_list(task)),
        budget=budget,
        seeds=seeds,
        steps=steps,
        epochs=epochs,
        tune=tune,
        until=until,
        max_seeds=max_seeds,
        jobs=jobs,
        baseline=baseline,
        batch_size=batch_size,
        accumulate=accumulate,
        max_length=max_length,
        train_sizes=sizes_of(train_size),
        attention=attention,
        checkpointing=checkpoint_activations,
        forgetting=forgetting,
        learning_rate=lr,
        device=choice("device", device, ("auto", "cpu", "cuda")),
        dtype=choice("dtype", dtype, ("auto", "float32", "bfloat16")),
        baselines=baselines,
        latency_grid=cells_of(latency_grid),
        profile=profile,
        plugins=plugins_of(plugins),
        data_dir=folder_of(data_dir),
    )
    check_request(asked)
    loader.load_plugins(Path(p) for p in report_plugins_of(plugins))
    registry.get("report", report)
    check_timeout(timeout)
    opened = Store(store)
    if curve < 0:
        raise UsageError(f"--curve must be 0 or more, not {curve}; 0 scores validation at no moment")
    how = Execution(jobs, timeout, retry_failed, keep_weights, curve)
    if dry_run:
        with engine_named() as engine:
            planned = plan(asked, engine)
        typer.echo(plan_text(planned, asked.trials, opened, how), nl=False)
        return
    with engine_named() as engine, Display(quiet) as display:
        compared = compare(asked, opened, engine, how, display)
    write(render(compared.tables, report))
    if not compared.good:
        raise typer.Exit(1)
