"""Part `outside`: what a run costs outside its steps, phase by phase, and what a whole table costs as a user types it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peftbench import progress
from peftbench.comparison.compare import planned_runs
from peftbench.comparison.request import Comparison
from peftbench.engine.named import engine_named
from peftbench.execution.execute import execute
from peftbench.records.runs import ALONE
from peftbench.records.store import Store

from .checkpoints import checkpoint, device, texts

ITEMS, NEW_TOKENS = 200, 16


def phases(
    size: str, shape: tuple[int, int], steps: int, work: Path, write: Callable[[dict[str, Any]], None]
) -> None:
    """Seconds and peak of each phase of one run of LoRA, in this process."""
    asked = Comparison(
        methods=("lora",), models=(str(checkpoint(size, work)),), tasks=(texts(shape[1], ITEMS, NEW_TOKENS, work),), baselines=False,
        seeds=1, steps=steps, batch_size=shape[0], max_length=shape[1], latency_grid=(), profile=False,
    )  # fmt: skip
    with engine_named("inline") as engine:
        (item,) = (one for one in planned_runs(asked, engine, None) if one.run.kind == "training")
    seen: list[dict[str, Any]] = []
    began = time.perf_counter()

    def close() -> None:
        nonlocal began
        if device().type == "cuda":
            torch.cuda.synchronize()
            if seen:
                seen[-1]["peak_bytes"] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        if seen:
            seen[-1]["s"] = time.perf_counter() - began
        began = time.perf_counter()

    def hear(event: dict[str, Any]) -> None:
        if "phase" in event:
            close()
            seen.append({"phase": event["phase"]})

    with tempfile.TemporaryDirectory() as out, progress.reported_to(hear):
        record = execute(item.run, Path(out), ALONE)
    close()
    assert record.training is not None and record.scoring is not None
    write(
        {
            "size": size, "batch": shape[0], "length": shape[1], "phases": seen, "wall_s": record.wall_s,
            "steps": steps, "steps_s": sum(record.training["step_s"]), "scored_items": record.scoring["items"],
            "new_tokens": NEW_TOKENS, "checks": record.checks,
        }
    )  # fmt: skip


def table(
    size: str,
    options: str,
    shape: tuple[int, int],
    steps: int,
    work: Path,
    write: Callable[[dict[str, Any]], None],
) -> None:
    """`peftbench run` with everything on: its wall time, its table, and the wall time of each of its runs.

    Args:
        options: with the methods, as typed.
    """
    task = texts(shape[1], ITEMS, NEW_TOKENS, work)
    with tempfile.TemporaryDirectory(dir=work) as store:
        command = [
            sys.executable, "-m", "peftbench", "run", "--model", str(checkpoint(size, work)), *options.split(), "--task", task,
            "--batch-size", str(shape[0]), "--max-length", str(shape[1]), "--steps", str(steps), "--seeds", "1", "--no-baselines",
            "--format", "markdown", "--store", store,
        ]  # fmt: skip
        started = time.perf_counter()
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        wall_s = time.perf_counter() - started
        records = [stored.record for stored in Store(Path(store)).all()]
    write(
        {
            "size": size, "batch": shape[0], "length": shape[1], "wall_s": wall_s, "exit": ended.returncode, "table": ended.stdout,
            "messages": ended.stderr[-3_000:],
            "runs": [
                {"kind": r.run.kind, "method": r.run.method, "status": r.status, "reason": r.reason, "wall_s": r.wall_s, "memory": r.memory}
                for r in records
            ],
        }
    )  # fmt: skip
