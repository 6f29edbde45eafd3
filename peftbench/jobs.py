"""What a worker process is asked to do: one function a job."""

from __future__ import annotations

import dataclasses
import datetime
import os
import traceback
from pathlib import Path
from typing import Any


def tell_of_a_full_disk(error: BaseException) -> bool:
    """Whether a place that must be written can't be: then the next run would fail as well, and the sweep must end."""
    from .progress import send
    from .records.store import unwritable

    said = unwritable(error)
    if said is not None:
        send({"unwritable": said})
    return said is not None


def plan_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .comparison.request import Comparison
    from .errors import PeftbenchError
    from .planning.plan import plan

    asked = job["asked"]
    grid = asked["latency_grid"]
    try:
        comparison = Comparison(
            **{
                **asked,
                **{
                    name: tuple(asked[name])
                    for name in ("methods", "models", "tasks", "plugins", "train_sizes")
                },
                "latency_grid": None if grid is None else tuple((b, n) for b, n in grid),
            }
        )
        return {"planned": [planned.to_json() for planned in plan(comparison)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def plan_latency_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .comparison.latency_request import LatencyRequest
    from .errors import PeftbenchError
    from .planning.latency import plan_latency

    asked = job["asked"]
    cells = asked["cells"]
    try:
        latency = LatencyRequest(
            **{
                **asked,
                **{name: tuple(asked[name]) for name in ("methods", "models", "plugins")},
                "cells": None if cells is None else tuple((b, n) for b, n in cells),
            }
        )
        return {"planned": [planned.to_json() for planned in plan_latency(latency)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def run_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """The record of a run as text; a failure is a record too."""
    from . import progress
    from .data import published
    from .errors import NotSupported
    from .measure.environment import describe
    from .plugins import loader
    from .records.record import Record
    from .records.runs import Conditions, Run

    run, conditions = Run.from_json(job["run"]), Conditions(**job["conditions"])
    if conditions.gpu is not None:  # before anything touches CUDA
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        own = visible.split(",")[conditions.gpu] if visible else str(conditions.gpu)
        os.environ["CUDA_VISIBLE_DEVICES"] = own
    if conditions.threads is not None:
        import torch

        torch.set_num_threads(conditions.threads)
    from .execution.execute import execute

    loader.load_plugins(Path(p) for p in run.plugins)
    published.use(run.data_dir)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    try:
        record = execute(run, out, conditions)
    except Exception as error:
        if tell_of_a_full_disk(error):
            raise
        progress.send({"memory": progress.memory_now()})
        traceback.print_exc()
        status = "not supported" if isinstance(error, NotSupported) else "failed"
        said = str(error) if isinstance(error, NotSupported) else f"{type(error).__name__}: {error}"
        reason = " ".join(said.split())[:300]
        record = Record(
            run,
            run.key,
            status,
            reason,
            failed_phase=progress.current_phase,
            failed_step=progress.current_step,
            environment=describe(run.device, conditions),
            started_at=started,
        )
    return {"record": record.to_text()}


def check_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .data import published
    from .errors import PeftbenchError
    from .inspection.check_method import check_file

    published.use(job["data_dir"])
    try:
        return {"checked": [dataclasses.asdict(one) for one in check_file(job["what"], job["plugins"], out)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def verify_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    import torch

    from .data import published
    from .errors import PeftbenchError
    from .inspection.verify import verify

    published.use(job["data_dir"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    again = out / "again"
    again.mkdir()
    try:
        found = verify(Path(job["folder"]), again, job["plugins"], job["data_dir"])
        return {"verdict": dataclasses.asdict(found)}
    except PeftbenchError as error:
        return {"error": str(error)}


def export_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .errors import PeftbenchError
    from .inspection.export import export

    try:
        return {"files": export(Path(job["folder"]), Path(job["to"]), job["merged"], job["plugins"])}
    except PeftbenchError as error:
        return {"error": str(error)}


def analyze_job(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .analysis.analyze import analyze
    from .errors import PeftbenchError

    other = None if job["other"] is None else Path(job["other"])
    try:
        return analyze(Path(job["one"]), other, job["only"], job["plugins"])
    except PeftbenchError as error:
        return {"error": str(error)}
