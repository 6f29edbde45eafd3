"""Stores of several machines brought together."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UsageError
from ..progress import notify
from .record import Record
from .store import ALL_BYTES, WEIGHTS, Store, Stored

# Kinds whose figures are the same each time; costs and latency are not, so a second measurement contradicts nothing.
REPEATED = ("training", "tuning")


@dataclass(frozen=True)
class Merged:
    """What came of it."""

    taken: int  # results
    held: int  # that were there already
    conflicts: tuple[str, ...]  # of runs with two results, of which the first stays


def merge(stores: Iterable[Store], into: Store) -> Merged:
    """Copy the newest valid result of each run of some stores into another one, where that holds none of the run, or one that tells less.

    Raises:
        UsageError: one of them is not there, or is the one to copy into; or that can't be written.
    """
    taken, held, conflicts = 0, 0, []
    for store in stores:
        if store.root.resolve() == into.root.resolve():
            raise UsageError(f"{str(store.root)!r} is the store to merge into (--store); name the others")
        found = store.all()
        if not found:  # a part of a comparison may be empty, and a folder may be another one than was meant
            notify(f"{str(store.root)!r} holds no results")
        for one in found:
            stored, there = store.get(one.record.key, ALL_BYTES), into.get(one.record.key)
            if stored is None:  # its weights are not what was written, which was said
                continue
            both_good = there is not None and stored.record.status == there.record.status == "ok"
            said = _apart(there.record, stored.record) if there is not None and both_good else None
            if there is None or (not said and _tells_more(stored, there)):
                kept = _copy(stored, into)
                taken += 1
            else:
                kept = there
                held += not said
            if said:
                conflicts.append(f"{said} in {str(into.root)!r}, which stays, and in {str(store.root)!r}")
            if there is not None and both_good:  # each look spends of the same 5 %, whoever took it
                for rule in (*there.record.rules, *stored.record.rules):
                    kept = into.look_at(kept, rule)
    return Merged(taken, held, tuple(conflicts))


def _tells_more(one: Stored, other: Stored) -> bool:
    """Whether a result has all that another one of its run has, and more: it is good, it has weights, moments of validation."""
    if one.record.status != "ok" or other.record.status != "ok":
        return one.record.status == "ok" != other.record.status
    its, others = (
        (len(stored.record.curve or ()), sum(file.suffix == WEIGHTS for file in stored.folder.iterdir()))
        for stored in (one, other)
    )
    return its != others and all(mine >= yours for mine, yours in zip(its, others, strict=True))


def _copy(stored: Stored, into: Store) -> Stored:
    with into.staging() as staging:
        for name in stored.record.files:
            if (file := stored.folder / name).is_file():  # weights may have been deleted
                shutil.copyfile(file, staging / name)
        return into.put(stored.record, staging)


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
