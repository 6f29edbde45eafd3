"""Where the runs of a table were done, and beside what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..records.record import Record
from .costs import measured_in
from .latency_notes import BUSY_SHARE

if TYPE_CHECKING:
    from .selection import Selected


def place_notes(chosen: Selected) -> list[str]:
    """The machine and the libraries, and what to take with care where they were not one, or not alone."""
    trained = [r.record for r in chosen.reported if r.record.environment]
    if not trained:
        return []
    measured = [record for record in _measured(chosen) if record.environment]
    notes = [_machine(trained[0], measured)]
    everywhere = [record.environment for record in (*trained, *measured)]
    if _differ(everywhere):
        notes.append(
            "Rows of this table come from different machines or library versions: compare costs with care."
        )
    if len({record.environment["threads"] for record in measured}) > 1:
        notes.append(
            "Steps of this table were timed with different numbers of threads: compare times with care."
        )
    return (
        notes + _failed(chosen) + _not_alone(chosen) + _beside(measured) + _timed_elsewhere(chosen, trained)
    )


def _measured(chosen: Selected) -> list[Record]:
    """The runs that costs are taken from."""
    return [record for records in _by_row(chosen).values() for record in records]


def _by_row(chosen: Selected) -> dict[str, list[Record]]:
    """The same by row, of those that train in steps."""
    found = {}
    for row, group in chosen.rows.items():
        good = [result.record for result in group if result.record.status == "ok"]
        alone = [record for record in chosen.cost_runs.get(row[0], ()) if record.status == "ok"]
        stepped = [record for record in measured_in(good, alone) if (record.training or {}).get("step_s")]
        if stepped:
            found[chosen.label(row)] = stepped
    return found


def _failed(chosen: Selected) -> list[str]:
    """A line for each method of which a measurement failed."""
    notes = []
    for what, by_method in (("cost", chosen.cost_runs), ("latency", chosen.latencies)):
        for method, records in by_method.items():
            if bad := [record for record in records if record.status != "ok"]:
                one = (
                    f"its {what} run"
                    if len(records) == 1
                    else f"{len(bad)} of its {len(records)} {what} runs"
                )
                notes.append(f"{method}: {one} {bad[0].status}: {bad[0].reason}.")
    return notes


def _not_alone(chosen: Selected) -> list[str]:
    """Where some rows have cost runs and others do not."""
    found = _by_row(chosen)
    beside = [label for label, records in found.items() if records[0].run.kind != "profile"]
    if not beside or len(beside) == len(found):
        return []
    said = f"Costs of {', '.join(beside)} come from the seeds' runs, whatever ran beside them"
    return [f"{said}, those of the other rows from runs of their own: compare them with care."]


def _machine(record: Record, measured: Sequence[Record]) -> str:
    run, there = record.run, record.environment
    libraries = there["libraries"]
    own = there["threads"]
    threads = measured[0].environment["threads"] if measured else own
    apart = "" if own == threads else f" for costs and {own} for quality"
    versions = ", ".join(f"{name} {libraries[name]}" for name in ("python", "torch", "transformers"))
    return (
        f"{run.device} ({there['gpu'] or there['processor']}), {threads} threads{apart}, compute {run.dtype}, weights {run.weights}; "
        f"{versions}, peftbench {libraries.get('peftbench', '?')}."
    )


def _beside(measured: Sequence[Record]) -> list[str]:
    """What else was at work while steps were timed."""
    notes = []
    shared = max((record.environment.get("jobs", 1) for record in measured), default=1)
    if shared > 1 and all(record.run.kind != "profile" for record in measured):  # else the rows are named
        on_gpu = measured[0].run.device == "cuda"
        beside = "each on a GPU of its own" if on_gpu else "which shared its cores and caches"
        notes.append(
            f"Up to {shared} runs at once on this machine, {beside}: step times are those of a shared machine, memory is "
            "each process's own, latency was measured alone."
        )
    busy = {
        r.run.method for r in measured if ((r.training or {}).get("others_cpu_share") or 0.0) > BUSY_SHARE
    }
    if busy and shared == 1 and measured[0].run.device == "cpu":
        notes.append(
            f"Other processes took more than {BUSY_SHARE:.0%} of the processor while steps were timed, so step times may be "
            f"too high: {', '.join(sorted(busy))}."
        )
    crowded = {r.run.method for r in measured if (r.training or {}).get("others_on_gpu")}
    if crowded:
        notes.append(
            f"Another process was using the GPU while steps were timed: {', '.join(sorted(crowded))}."
        )
    return notes


def _timed_elsewhere(chosen: Selected, trained: Sequence[Record]) -> list[str]:
    """Where slow-downs of one table do not come from one machine with one number of threads."""
    timed = [
        r.environment for its in chosen.latencies.values() for r in its if r.status == "ok" and r.environment
    ]
    if len({(place, e["threads"]) for e in timed for place in _machines([e])}) > 1:
        return [
            "Slow-downs were measured on different machines or with different numbers of threads: compare with care."
        ]
    if timed and not _machines(timed) <= _machines([record.environment for record in trained]):
        return ["Slow-downs were measured on another machine than the training."]
    return []


def _machines(environments: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(e.get(name) for name in ("machine", "gpu", "processor")) for e in environments}


def _differ(environments: Sequence[Mapping[str, Any]]) -> bool:
    """Whether they are several machines, or a library is there in two versions; one that a run alone uses is no difference."""
    versions: dict[str, set[str]] = {}
    for one in environments:
        for name, version in one["libraries"].items():
            versions.setdefault(name, set()).add(version)
    return len(_machines(environments)) > 1 or any(len(its) > 1 for its in versions.values())
