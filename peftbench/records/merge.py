"""Stores of several machines brought together."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UsageError
from .record import Record
from .store import RECORD, Store, Stored

# Kinds whose figures are the same each time; costs and latency are not, so a second measurement contradicts nothing.
REPEATED = ("training", "tuning")


@dataclass(frozen=True)
class Merged:
    """What came of it."""

    taken: int  # results
    held: int  # that were there already
    conflicts: tuple[str, ...]  # of runs with two results, of which the first stays


def merge(stores: Iterable[Store], into: Store) -> Merged:
    """Copy the newest valid result of each run of some stores into another one, where that holds none of the run, or a failed one.

    Raises:
        UsageError: one of them is not there, or is the one to copy into; or that can't be written.
    """
    taken, held, conflicts = 0, 0, []
    for store in stores:
        if store.root.resolve() == into.root.resolve():
            raise UsageError(f"{str(store.root)!r} is the store to merge into (--store); name the others")
        for one in store.all():
            stored, there = store.get(one.record.key), into.get(one.record.key)
            if stored is None:  # its weights are not what was written, which was said
                continue
            good = stored.record.status == "ok"
            if there is None or (good and there.record.status != "ok"):
                _copy(stored, into)
                taken += 1
            elif good and (said := _apart(there.record, stored.record)):
                conflicts.append(f"{said} in {str(into.root)!r}, which stays, and in {str(store.root)!r}")
            else:
                held += 1
            if (
                good and there is not None and there.record.status == "ok"
            ):  # each look spends of the same 5 %, whoever took it
                for rule in stored.record.rules:
                    there = into.look_at(there, rule)
    return Merged(taken, held, tuple(conflicts))


def _copy(stored: Stored, into: Store) -> None:
    with into.staging() as staging:
        for file in stored.folder.iterdir():
            if file.name != RECORD and file.is_file():
                shutil.copyfile(file, staging / file.name)
        into.put(stored.record, staging)


def _apart(one: Record, other: Record) -> str | None:
    """How two results of a run differ that should be the same; None: they do not."""
    run = one.run
    if run.kind not in REPEATED or one.quality == other.quality:
        return None
    figures = [
        f"{name} {value} and {theirs}"
        for name, value in (one.quality or {}).items()
        if value is not None and (theirs := (other.quality or {}).get(name)) is not None and theirs != value
    ]
    return f"run {one.key[:12]} ({run.method} on {run.task}, seed {run.seed}) has {', '.join(figures) or 'other figures'}"
