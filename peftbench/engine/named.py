"""Engines by name. A new one is a file behind an entry point of the group `peftbench.engines`."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import defaults
from ..errors import UsageError, unknown
from .protocol import Engine

GROUP = "peftbench.engines"
BUILT_IN = {
    "local": "peftbench.engine.local:LocalEngine",
    "inline": "peftbench.jobs:inline_engine",
    "ray": "peftbench.engine.ray:RayEngine",
    "slurm": "peftbench.engine.slurm:SlurmEngine",
}
WITHOUT_SETTINGS = ("local", "inline")


def names() -> list[str]:
    """Every engine that there is."""
    return sorted({*BUILT_IN, *(point.name for point in importlib.metadata.entry_points(group=GROUP))})


@contextmanager
def engine_named(name: str = defaults.ENGINE) -> Iterator[Engine]:
    """An engine for the block. It starts nothing before it is given work.

    Args:
        name: may have settings behind a colon, which are given to the engine as a text.

    Raises:
        UsageError: there is none of that name, its code does not import, or it takes no such settings.
    """
    name, _, settings = name.partition(":")
    if settings and name in WITHOUT_SETTINGS:
        raise UsageError(f"the engine {name} takes no settings, and {settings!r} was given")
    made = _maker(name)(*([settings] if settings else []))
    try:
        yield made
    finally:
        made.close()


def _maker(name: str) -> Callable[..., Engine]:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        made: Callable[..., Engine] = getattr(importlib.import_module(module), attribute)
        return made
    for point in importlib.metadata.entry_points(group=GROUP, name=name):
        try:
            found: Callable[..., Engine] = point.load()
        except (Exception, SystemExit) as error:
            said = " ".join(str(error).split())[:200]
            raise UsageError(f"engine {name!r} does not import: {type(error).__name__}: {said}") from error
        return found
    raise unknown("engine", name, names(), f"a new one is an entry point of the group {GROUP}")
