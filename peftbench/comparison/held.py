"""Latency processes that the store holds, whichever methods they were done for.

What a process tells of a method is its ratio to the base of that process, so it serves every comparison that has the method. A method
that comes to a comparison later is timed beside the base in processes of its own, and the figures of the others stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from ..records.joint import joined, parts, record_parts
from ..records.runs import Planned, Run
from ..records.store import Store


class Held:
    """What the store held of latency before anything was done."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def used_for(self, planned: Sequence[Planned]) -> list[Planned]:
        """Planned runs, a latency process with those that the store holds of its number in its place, and one for the methods left."""
        found = []
        for item in planned:
            wanted = item.run.kind == "latency" and item.refusal is None
            if not wanted or self.store.get(item.run.key) is not None:
                found.append(item)
            else:
                found += [dataclasses.replace(item, run=run) for run in self._in_place_of(item.run)]
        return found

    @cached_property
    def _by_part(self) -> dict[str, list[Run]]:
        """The good processes of this version, by the keys of their methods."""
        found: dict[str, list[Run]] = {}
        for stored in self.store.all() if self.store.root.is_dir() else ():
            record = stored.record
            if record.run.kind == "latency" and record.status == "ok" and not record.is_older:
                for part in record_parts(record):
                    if part.status == "ok":  # it was not left out there
                        found.setdefault(part.key, []).append(record.run)
        return found

    def _in_place_of(self, run: Run) -> list[Run]:
        left = {part.key: part for part in parts(run)}
        found = []
        while held := {one.key: one for key in left for one in self._by_part.get(key, ())}:

            def first(one: Run) -> tuple[int, int, str]:
                """Those with most of what is wanted, then with least beside it."""
                its = [part.key for part in parts(one)]
                return -sum(key in left for key in its), len(its), one.method

            best = min(held.values(), key=first)
            # In the words and with the time that were asked for now: neither is in its key.
            found.append(
                dataclasses.replace(
                    joined([left.pop(part.key, part) for part in parts(best)]),
                    model=run.model,
                    task=run.task,
                    grid=run.grid,
                    home=run.home,
                    places=tuple(dict.fromkeys((*run.places, *best.places))),
                )
            )
        return [*found, joined(list(left.values()))] if left else found
