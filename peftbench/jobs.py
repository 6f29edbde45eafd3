"""How each job is done, in the process that it was given to. `engine.jobs` says what there is to ask.

Each function imports what it needs: the program's own side takes this module up for its names alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import progress
from .data import published
from .data.hub import pinned
from .engine import answers
from .engine import jobs as asked
from .engine.inline import InlineEngine
from .errors import NotSupported, PeftbenchError
from .records.record import Record
from .records.store import unwritable

Answer = dict[str, Any]


def do(job: asked.Job, out: Path) -> Answer:
    """The answer to a job, its files in the folder `out`. What is wrong with what was asked is an answer too: `error`."""
    try:
        return _DOERS[type(job)](job, out)
    except PeftbenchError as error:
        return {"error": str(error)}


def carry_out(job: asked.Job, out: Path, send: Callable[[dict[str, Any]], None]) -> int:
    """Do a job in a process of its own, as `engine.answers.carry_out` says; what an engine calls where it has brought a job."""
    return answers.carry_out(job, out, do, send)


def inline_engine() -> InlineEngine:
    """An engine that does its jobs in this process."""
    return InlineEngine(_as_if_alone)


def _as_if_alone(job: asked.Job, out: Path) -> Answer:
    """Do a job, and put back what it sets for a whole process."""
    import torch
    from accelerate.state import AcceleratorState

    threads, gpus = torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return do(job, out)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(threads)
        if gpus is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus


def _plan(job: asked.Plan, out: Path) -> Answer:
    from .comparison.request import Comparison
    from .planning.plan import plan

    wanted = Comparison.from_json(job.asked)
    return {"planned": [planned.to_json() for planned in plan(wanted, job.capacity)]}


def _plan_latency(job: asked.PlanLatency, out: Path) -> Answer:
    from .comparison.latency_request import LatencyRequest
    from .planning.latency import plan_latency

    wanted = LatencyRequest.from_json(job.asked)
    return {"planned": [planned.to_json() for planned in plan_latency(wanted, job.capacity)]}


def _execute(job: asked.Execute, out: Path) -> Answer:
    """The record of a run as text; a failure is a record too."""
    if (first := job.conditions.gpu) is not None:  # before anything touches CUDA
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        own = range(first, first + job.run.ranks)
        there = visible.split(",") if visible else None
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(there[gpu] if there else str(gpu) for gpu in own)
    if job.run.ranks == 1:
        return _execute_here(job, out)
    from .execution.launch import on_ranks

    try:
        return on_ranks(job.run, out, lambda home: _execute_here(job, home))
    except PeftbenchError as error:
        return {"record": Record(job.run, job.run.key, "failed", str(error), started_at=_now()).to_text()}


def _execute_here(job: asked.Execute, out: Path) -> Answer:
    """The same in this process, which may be one of several of the run."""
    from .measure.environment import describe

    run, conditions = job.run, job.conditions
    if conditions.threads is not None:
        import torch

        torch.set_num_threads(conditions.threads)
    from .execution.execute import execute
    from .execution.prepare import check_identity
    from .plugins import build, loader

    loader.load_plugins(Path(p) for p in run.plugins)
    started = _now()
    try:
        with published.looked_for_in(run.data_dir), pinned(run.pins):
            check_identity(run)
            build.check_data(run)
            record = execute(run, out, conditions)
    except Exception as error:
        if unwritable(error) is not None:
            raise
        progress.send({"memory": progress.memory_now()})
        traceback.print_exc()
        status = "not supported" if isinstance(error, NotSupported) else "failed"
        said = str(error) if isinstance(error, PeftbenchError) else f"{type(error).__name__}: {error}"
        phase, step = progress.place()
        record = Record(
            run,
            run.key,
            status,
            " ".join(said.split())[:300],
            failed_phase=phase,
            failed_step=step,
            environment=describe(run.device, conditions),
            started_at=started,
        )
    return {"record": record.to_text()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _check(job: asked.CheckPlugin, out: Path) -> Answer:
    from .inspection.check_method import check_file

    with published.looked_for_in(job.data_dir):
        return {"checked": [dataclasses.asdict(one) for one in check_file(job.what, job.plugins, out)]}


def _verify(job: asked.Verify, out: Path) -> Answer:
    import torch

    from .inspection.verify import verify

    if job.threads:
        torch.set_num_threads(job.threads)
    again = out / "again"
    again.mkdir()
    with published.looked_for_in(job.data_dir):
        return {"verdict": dataclasses.asdict(verify(Path(job.folder), again, job.plugins, job.data_dir))}


def _export(job: asked.Export, out: Path) -> Answer:
    from .inspection.export import export

    return {"files": export(Path(job.folder), Path(job.to), job.merged, job.step, job.plugins)}


def _analyze(job: asked.Analyze, out: Path) -> Answer:
    from .analysis.analyze import analyze

    return analyze(Path(job.one), None if job.other is None else Path(job.other), job.only, job.plugins)


def _look(job: asked.Look, out: Path) -> Answer:
    from .measure.environment import capacity

    return capacity().to_json()


_DOERS: dict[type[asked.Job], Callable[[Any, Path], Answer]] = {
    asked.Plan: _plan,
    asked.PlanLatency: _plan_latency,
    asked.Execute: _execute,
    asked.CheckPlugin: _check,
    asked.Verify: _verify,
    asked.Export: _export,
    asked.Analyze: _analyze,
    asked.Look: _look,
}
