"""How many runs may share a machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from peftbench.engine.protocol import Capacity, Device
from peftbench.engine.room import Room
from peftbench.jobs import inline_engine
from peftbench.records.record import Record
from peftbench.records.runs import Planned, Run

GB = 10**9


def room(run: Run, jobs: int | None, gpus: int = 0, memory_bytes: int = 8 * GB) -> Room:
    devices = (Device("cuda", gpus, 80 * GB, True),) if gpus else ()
    capacity = Capacity((*devices, Device("cpu", 1, memory_bytes, False)), 4)
    engine: Any = SimpleNamespace(capacity=lambda: capacity)
    return Room.of([Planned(run, False, None, None, None)], jobs, engine)


def taking(run: Run, resident_bytes: int) -> Record:
    return Record(
        run, run.key, "ok", memory={"train": {"peak_resident_bytes": resident_bytes}, "score": None}
    )


def test_runs_share_cores_and_memory(make_run: Callable[..., Run]) -> None:
    run = make_run("lora")
    small = room(run, None)
    assert (
        small.jobs == 4 and small.has(run, []) and not small.has(run, [run])
    )  # what one takes is not known yet
    small.learn(taking(run, GB))
    assert small.has(run, [run] * 3) and not small.has(run, [run] * 4)
    assert not small.has(dataclasses.replace(run, model="another"), [run])
    threaded = dataclasses.replace(run, threads=2)
    assert small.has(threaded, [run, run]) and not small.has(threaded, [run] * 3)
    small.learn(taking(run, 3 * GB))
    assert small.has(run, [run]) and not small.has(run, [run] * 2)  # three take 9 of 8 GB


def test_an_engine_that_does_one_at_a_time_is_given_one(make_run: Callable[..., Run]) -> None:
    """Else a run that waits is said to share the machine, and the time that it waits is counted."""
    engine: Any = inline_engine()
    assert Room.of([Planned(make_run("lora"), False, None, None, None)], None, engine).jobs == 1


def test_costs_are_measured_alone_and_a_run_has_a_gpu(make_run: Callable[..., Run]) -> None:
    run = make_run("lora")
    for kind in ("profile", "latency"):
        alone = dataclasses.replace(run, kind=kind)
        asked = room(run, 3)
        assert asked.has(alone, []) and not asked.has(alone, [run]) and not asked.has(run, [alone])
    assert room(run, 3).jobs == 3 and room(run, 3).has(
        run, [run] * 9
    )  # as asked for: slots are counted elsewhere
    on_gpu = dataclasses.replace(run, device="cuda")
    assert room(on_gpu, None, gpus=2).jobs == 2 and room(on_gpu, None, gpus=2).has(on_gpu, [on_gpu])


def test_runs_on_several_gpus_are_as_many_as_there_are_gpus_for(make_run: Callable[..., Run]) -> None:
    """One more would be given the numbers of GPUs that are not there."""
    pair = dataclasses.replace(make_run(), device="cuda", ranks=2)
    assert [room(pair, jobs, gpus=8).jobs for jobs in (None, 3, 8)] == [4, 3, 4]
    assert room(dataclasses.replace(pair, ranks=1), 16, gpus=8).jobs == 16
