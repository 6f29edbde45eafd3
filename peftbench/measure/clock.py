"""Timers that miss nothing still queued on a GPU: a clock for phases, and a stopwatch for short calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronized_clock(device: torch.device) -> Callable[[], float]:
    """A function that returns seconds, after everything submitted to `device` is done."""
    if device.type != "cuda":
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def stopwatch(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """A function that makes a call and returns its milliseconds: by CUDA events on a GPU, else by the wall clock.

    The device is idle when a call begins, so gaps between kernels that wait for the host are counted: a user waits for
    them too.
    """
    if device.type != "cuda":

        def by_wall_clock(call: Callable[[], object]) -> float:
            started = time.perf_counter()
            call()
            return (time.perf_counter() - started) * 1e3

        return by_wall_clock

    def by_events(call: Callable[[], object]) -> float:
        started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        started.record()
        call()
        ended.record()
        torch.cuda.synchronize(device)
        ms: float = started.elapsed_time(ended)
        return ms

    return by_events


def taken_by(device: torch.device) -> str:
    """How `stopwatch` takes its times, in words."""
    return "CUDA events" if device.type == "cuda" else "wall clock"
