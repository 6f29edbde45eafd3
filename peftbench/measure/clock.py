"""A clock that waits for the device, so that work still queued on a GPU is not missed."""

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
