"""The same work on many things, on all processors.

For what is made of thousands of stored runs. The processes are forked, so that records which this one has read need not
travel; what they make does, and should be small.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from .errors import PeftbenchError

T = TypeVar("T")
MANY_RUNS = 2_000  # runs from which on a report is made so: below it takes no longer than forking is worth
MOST = 4  # processes; each copies what it touches
AT_ONCE = 4  # things that a process makes before it says so
_function: Callable[[int], Any]  # in a process that was forked for it


def parallel_map(function: Callable[[int], T], count: int, runs: int) -> list[T]:
    """`function(i)` of i from 0 up to `count`, in order; one after the other where there are few `runs`.

    Raises:
        PeftbenchError: a process was killed.
        Exception: what the function raised.
    """
    processes = min(MOST, len(os.sched_getaffinity(0)), count) if sys.platform == "linux" else 1
    if runs < MANY_RUNS or processes < 2:
        return [function(i) for i in range(count)]
    forked = multiprocessing.get_context("fork")
    with (
        warnings.catch_warnings(),
        ProcessPoolExecutor(processes, forked, _begin, (function, os.getpid())) as pool,
    ):
        # Of forking beside threads: those here are numpy's own, idle, and made for it.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return list(pool.map(_made, range(count), chunksize=AT_ONCE))
        except BrokenProcessPool as error:
            raise PeftbenchError(
                "a process of this report was killed; is there too little memory?"
            ) from error


def _begin(function: Callable[[int], Any], parent: int) -> None:
    global _function
    _function = function
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when the report is gone: it would wait for work that nobody sends."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _made(i: int) -> Any:
    return _function(i)
