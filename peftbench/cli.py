"""The command line. Tables go to stdout, progress and notices to stderr.

Exit status: 0 all runs are good; 1 some run failed, is not supported or breaks a claim (its row is in the table), or a
limit of `compare` is broken; 2 the command is wrong, in one line; 3 a limit of `compare` is undecided; 130 interrupted,
everything finished is kept.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_paper, cli_stored, defaults
from .errors import PeftbenchError, UsageError
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

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare fine-tuning methods on your model and data: quality, memory, time and latency.",
)

# Recent typer carries its own copy of click, older typer imports click: ask typer for the class either way.
_CLICK_ERROR: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


@app.command("run")
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
    from . import registry, spec
    from .api import compare, plan_only, render
    from .comparison import Comparison, check
    from .dryrun import plan_text
    from .show import Display
    from .store import Store
    from .sweep import Execution

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
    check(asked)
    registry.load_plugins(Path(p) for p in report_plugins_of(plugins))
    registry.get("report", report)
    check_timeout(timeout)
    opened = Store(store)
    if curve < 0:
        raise UsageError(f"--curve must be 0 or more, not {curve}; 0 scores validation at no moment")
    how = Execution(jobs, timeout, retry_failed, keep_weights, curve)
    if dry_run:
        typer.echo(plan_text(plan_only(asked), asked.trials, opened, how), nl=False)
        return
    with Display(quiet) as display:
        compared = compare(asked, opened, how, display.planned, display.event, display.done)
    write(render(compared.tables, report))
    if not compared.good:
        raise typer.Exit(1)


@app.command("latency")
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
    from . import registry, spec
    from .api import compare_latency, render_latency
    from .latency_asked import LatencyAsked, check
    from .latency_table import latency_tables
    from .show import Display
    from .store import Store
    from .sweep import Execution

    asked = LatencyAsked(
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
    check(asked)
    check_timeout(timeout)
    registry.load_plugins(Path(p) for p in report_plugins_of(plugins))
    render_latency([], report)
    with Display(quiet) as display:
        how = Execution(timeout_s=timeout, retry_failed=retry_failed)
        records = compare_latency(asked, Store(store), how, display.planned, display.event, display.done)
    typer.echo(render_latency(latency_tables(records), report), nl=False)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="methods, tasks, models, reports or runs.")],
    store: StoreOption = Path(defaults.STORE),
    plugins: PluginsOption = None,
    form: Annotated[
        str,
        typer.Option("--format", help="text, json, or, for methods, markdown with formulas and families."),
    ] = "text",
) -> None:
    """What exists: registered names with their fields, starter models, or the runs of a store."""
    import json

    from .listing import listing

    choice("format", form, ("text", "json", "markdown"))
    if form == "markdown" and what != "methods":
        raise UsageError("--format markdown is there for `peftbench list methods`; write text or json")
    rows = listing(what, store, plugins_of(plugins))
    if form == "markdown":
        from . import registry
        from .methods_table import methods_table

        typer.echo(methods_table(registry.load("method").values()), nl=False)
    elif form == "json":
        typer.echo(json.dumps(rows, indent=1))
    elif rows:
        from tabulate import tabulate

        typer.echo(tabulate(rows, headers="keys", tablefmt="plain"))


@app.command("check")
def check_command(
    what: Annotated[
        str, typer.Argument(help="SPEC of a method or a task, or a Python or TOML file with some.")
    ],
    plugins: PluginsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Does a method keep its claims, on tiny CPU models of three families? Do a task's splits and metrics hold up?"""
    from .contract_text import text_of
    from .engine import ask, worker

    with worker() as works:
        answer = ask(
            {"job": "check", "what": what, "plugins": plugins_of(plugins), "data_dir": folder_of(data_dir)},
            works,
        )
    typer.echo(text_of(answer["checked"]), nl=False)
    if any(one["outcome"] == "fail" for one in answer["checked"]):
        raise typer.Exit(1)


@app.command("new")
def new_command(
    kind: Annotated[str | None, typer.Argument(help="method")] = None,
    name: Annotated[str | None, typer.Argument(help="Its name: lower case, digits and dashes.")] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder of both files.")] = Path(),
) -> None:
    """Write a method of your own in one file, with its test: it works, and shows where to edit."""
    from .new import new

    typer.echo(new(kind, name, to, [Path(p) for p in plugins_of(None)]), nl=False)


@app.command("doctor")
def doctor_command() -> None:
    """What this machine, its GPU and its libraries can measure, and what they can't."""
    from .doctor import doctor

    typer.echo(doctor())


app.add_typer(cli_stored.app)
app.add_typer(cli_paper.app)


def main(arguments: list[str] | None = None) -> None:
    """The program `peftbench`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(args=arguments or ["--help"], prog_name="peftbench", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except _CLICK_ERROR as error:
        status = _wrong(error.format_message())
    except PeftbenchError as error:
        status = _wrong(str(error))
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    if status == 130:  # recent typer turns Ctrl-C into this status itself
        _interrupted()
    sys.exit(status if isinstance(status, int) else 0)


def _wrong(message: str) -> int:
    print("peftbench:", " ".join(message.split()), file=sys.stderr)
    return 2


def _interrupted() -> None:
    print("peftbench: interrupted; what is finished is kept, the same command carries on", file=sys.stderr)
