"""What the program itself takes for thousands of runs: its own time and memory a run, planning, carrying on, and a dry run.

    python benchmarks/many_runs.py [--runs 10000] [--engines local,inline,ray]

Goals: 20 ms or less a run with memory that stays as it is, 10 s for planning 10,000 cells, and 10 s for carrying on where all runs are there.
The runs do no work: each leaves a copy of one real run's files and its record under its own key. All else is as in every comparison: the plan, a
process a run (`local`, and `ray` on this machine), claims, progress, the store on a disk. Two plans are made: methods x seeds, which is run, and methods x sizes of training data,
each a cell of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from peftbench import jobs, worker
from peftbench.comparison.compare import compare, planned_runs
from peftbench.comparison.dry_run import plan_text
from peftbench.comparison.request import Comparison
from peftbench.engine import local, ray
from peftbench.engine.jobs import Execute
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Engine
from peftbench.engine.sweep import Execution
from peftbench.records.record import Record
from peftbench.records.store import RECORD, Store

LIKE = "PEFTBENCH_MANY_RUNS_LIKE"  # the folder of the run that all others are copies of
METHODS, HOW = 100, Execution(jobs=2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--engines", default="local,inline")
    asked = parser.parse_args()
    seeds = asked.runs // METHODS
    runs, cells = over(seeds=seeds), over(train_sizes=tuple(range(100, 100 + seeds)))
    print("| engine | what | seconds | ms a run | peak MB of the program |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[LIKE] = str(one_run(Path(scratch) / "like"))
        local.WORKER = ray.DRIVER = (
            "many_runs"  # this file, as a worker without work, or as what speaks to Ray of such
        )
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        without_work()
        for name in asked.engines.split(","):
            store = Store(Path(scratch) / name)

            def done(engine: Engine, store: Store = store) -> int:
                return len(compare(runs, store, engine, HOW).results)

            def seen(engine: Engine, store: Store = store) -> int:
                planned = planned_runs(cells, engine, None)
                return len(planned) if plan_text(planned, 0, store, HOW) else 0

            measured(
                name, f"plan {METHODS * seeds:,} cells", lambda engine: len(planned_runs(cells, engine, None))
            )
            measured(
                name, f"plan {METHODS * seeds:,} runs", lambda engine: len(planned_runs(runs, engine, None))
            )
            measured(name, "run them", done)
            measured(name, "carry on where all are there", done)
            measured(name, "dry run of the cells", seen)


def over(**axis: Any) -> Comparison:
    """Methods over seeds or sizes of training data."""
    methods = tuple(f"lora:rank={1 + i % 4}:alpha={1 + i}" for i in range(METHODS))
    return Comparison(
        methods, ("tiny-encoder",), ("synthetic",), baselines=False, **{"seeds": 1, **axis}, steps=2, profile=False, latency_grid=()
    )  # fmt: skip


def one_run(store: Path) -> Path:
    """The folder of a real run."""
    with engine_named() as engine:
        asked = dataclasses.replace(over(), methods=("lora",))
        (result,) = compare(asked, Store(store), engine).results
    return result.folder


def measured(engine_name: str, what: str, do: Callable[[Engine], int]) -> None:
    """A line of the table."""
    program, peak = psutil.Process(), 0

    def watch(event: str, _: Any) -> None:
        nonlocal peak
        if event == "os.rename":  # once a run
            peak = max(peak, program.memory_info().rss)

    watching.append(watch)
    begun = time.perf_counter()
    with engine_named(engine_name) as engine, contextlib.redirect_stderr(io.StringIO()):
        count = do(engine)
    seconds = time.perf_counter() - begun
    watching.clear()
    peak = max(peak, program.memory_info().rss)
    print(
        f"| {engine_name} | {what} | {seconds:.1f} | {1000 * seconds / count:.1f} | {peak / 1e6:,.0f} |",
        flush=True,
    )


watching: list[Callable[[str, Any], None]] = []
sys.addaudithook(lambda event, args: [watch(event, args) for watch in watching] and None)


def without_work() -> None:
    """From here on a run of this process does none."""
    like = Path(os.environ[LIKE])
    record = Record.from_text((like / RECORD).read_text(encoding="utf-8"))

    def execute(job: Execute, out: Path) -> dict[str, Any]:
        for file in like.iterdir():
            if file.name != RECORD:
                shutil.copy(file, out)
        return {"record": dataclasses.replace(record, run=job.run, key=job.run.key).to_text()}

    jobs._DOERS[Execute] = execute


def on_node_without_work(message: Any, paths: Any, source: Any) -> Iterator[Any]:
    """As `peftbench.cluster.node.on_node`, with this file as the node's worker."""
    from peftbench.cluster import node

    local.WORKER = "many_runs"
    yield from node.on_node(message, paths, source)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].isdecimal():  # as a worker
        without_work()
        worker.main(int(sys.argv[1]))
    elif len(sys.argv) == 3 and sys.argv[1].isdecimal():  # as what speaks to Ray
        import many_runs

        from peftbench.cluster import driver

        driver.on_node = many_runs.on_node_without_work
        driver.main(int(sys.argv[1]), sys.argv[2])
    else:
        main()
