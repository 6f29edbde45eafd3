"""Paths in a request: spelled in one way, and named in its runs, so that where files lie makes no other run of the same one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import spec
from ..folders import expanded, normal_path
from ..models.starters import STARTERS
from ..plugins import registry
from ..records.runs import Planned, Run


def spelled(model: str) -> str:
    """The name of a model; of a folder or a file as `normal_path` has it."""
    return normal_path(model) if _is_path(model) else model


def placed(planned: Iterable[Planned]) -> list[Planned]:
    """The same runs, which say what of their words are paths, and the folder that the relative ones are seen from."""
    known: dict[tuple[str | None, ...], tuple[str, ...]] = {}
    found = []
    for item in planned:
        run = item.run
        words = (run.model, run.method, run.task, run.forgetting, *run.retain)
        if words not in known:
            known[words] = tuple(dict.fromkeys(_paths(run)))
        home = str(Path.cwd()) if any(not os.path.isabs(place) for place in known[words]) else None
        found.append(dataclasses.replace(item, run=dataclasses.replace(run, places=known[words], home=home)))
    return found


def _paths(run: Run) -> Iterator[str]:
    if _is_path(run.model):
        yield run.model
    tasks = (run.task, run.forgetting, *run.retain)
    for kind, text in (("method", run.method), *(("task", task) for task in tasks)):
        yield from paths_in(kind, text or "")


def paths_in(kind: str, specs: str) -> Iterator[str]:
    """Of SPECs of methods or of tasks, the values that name files which are there."""
    for one in spec.parse_list(specs):
        fields = dataclasses.fields(registry.find(kind, one.name)[0].target)
        files = {field.name for field in fields if field.metadata.get("file")}
        yield from (value for name, value in one.fields if name in files and os.path.exists(value))


def _is_path(model: str) -> bool:
    return model not in STARTERS and expanded(model, "model").exists()
