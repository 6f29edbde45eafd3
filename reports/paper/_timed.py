"""Forward passes of several methods over one shared base, as the experiments on latency take them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from peftbench.comparison.compare import compare_latency
from peftbench.comparison.latency_request import LatencyRequest
from peftbench.errors import PeftbenchError
from peftbench.experiments.page import Asked
from peftbench.models.resolve import kind_of, resolve_model
from peftbench.plugins.build import canonical
from peftbench.records.joint import record_parts
from peftbench.records.record import Record
from peftbench.records.runs import BASE, merged_name
from peftbench.records.store import Store
from peftbench.render.columns import MISSING
from peftbench.stats.estimate import Estimate
from peftbench.stats.slowdown import Slowdown
from peftbench.tables.costs import over_base

from ._told import Told

Place = tuple[int, int]  # batch, length


@dataclass(frozen=True)
class Timed:
    """Raw times by cell, an element a process."""

    records: tuple[Record, ...]
    cells: dict[Place, list[dict[str, Any]]]

    def slowdown(self, variant: str, place: Place, base: str = BASE) -> Slowdown:
        """Of a variant over another one, from rounds that they shared."""
        found = over_base(self.cells[place], variant, base=base)
        if found is None:
            raise PeftbenchError(f"{variant} was not timed at {place[0]}x{place[1]}")
        return found

    def milliseconds(self, variant: str, place: Place) -> str:
        """Mean over all rounds with their standard deviation, as the paper prints it."""
        rounds = [ms for cell in self.cells[place] for ms in cell["ms"].get(variant, [])]
        if not rounds:
            return MISSING
        return f"{statistics.fmean(rounds):,.1f} ±{statistics.stdev(rounds):.1f}"

    @property
    def machine(self) -> str:
        """What it was timed on, with the libraries."""
        seen, meters = self.records[0].environment, self.records[0].meters or {}
        libraries = seen["libraries"]
        place = seen["gpu"] or f"{seen['processor']}, {seen['threads']} threads"
        return f"{place}; timed by {meters.get('timer')}; torch {libraries['torch']}, transformers {libraries['transformers']}"


def time_passes(
    asked: Asked, model: str, methods: tuple[str, ...], places: tuple[Place, ...], processes: int, rounds: int
) -> Timed:
    """Time one forward pass of every method, merged and unmerged, in fresh processes; what is stored is not timed again.

    Raises:
        PeftbenchError: a process failed, or a cell could not be measured.
    """
    wanted = LatencyRequest(
        methods=methods,
        models=(asked.model or model,),
        dtype=asked.dtype or "float32",
        cells=places,
        processes=processes,
        rounds=rounds,
        new_tokens=None if kind_of(resolve_model(asked.model or model)) != "causal" else 0,
    )
    told = Told(asked.say, lambda item, stored: f"a process of its own: {stored.record.status}")
    records = compare_latency(wanted, Store(asked.store), asked.engine, watcher=told)
    for one in (part for record in records for part in record_parts(record)):
        if one.status != "ok":
            raise PeftbenchError(f"{one.run.method} on {one.run.model}: {one.status}: {one.reason}")
    cells: dict[Place, list[dict[str, Any]]] = {}
    for record in records:
        for cell in record.latency or []:
            if cell["refusal"]:
                raise PeftbenchError(f"{cell['batch']}x{cell['length']} was not measured: {cell['refusal']}")
            cells.setdefault((cell["batch"], cell["length"]), []).append(cell)
    return Timed(tuple(records), cells)


def percent(found: Slowdown) -> str:
    """A slow-down with half of its 95 % interval."""
    return f"{found.value * 100:+.1f} ±{found.half_width() * 100:.1f} %"


def ratio(logs: Estimate) -> str:
    """A difference of logarithms as the ratio of the two, with half of its 95 % interval."""
    half = logs.half_width()
    spread = "" if half is None else f" ±{math.exp(logs.value) * math.sinh(half):.2f}"
    return f"{math.exp(logs.value):.2f}{spread}"


def merged(method: str) -> str:
    """The variant of a method that is merged into the weights."""
    return merged_name(canonical(method))
