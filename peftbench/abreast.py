"""The same work on many things, on all processors.

For what is made of thousands of stored runs. The processes are forked, so that records which this one has read need not
travel; what they make does, and should be small.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
MANY = 2_000  # runs from which on a report is made so: below it takes no longer than forking is worth
MOST = 4  # processes; each copies what it touches


def abreast(function: Callable[[int], T], count: int, runs: int) -> list[T]:
    """`function(i)` of i from 0 up to `count`, in order; one after the other where there are few `runs`.

    Raises:
        Exception: what the first of them raised.
    """
    processes = min(MOST, len(os.sched_getaffinity(0)), count) if sys.platform == "linux" else 1
    if runs < MANY or processes < 2:
        return [function(i) for i in range(count)]
    context = multiprocessing.get_context("fork")
    started = []
    for place in range(processes):
        ours, its = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(function, range(place, count, processes), its))
        with warnings.catch_warnings():
            # Of forking beside threads: those here are numpy's own, idle, and made for it.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        its.close()
        started.append((process, ours))
    found: list[T] = []
    try:
        for i in range(count):  # in turns, so that none waits for room to say what it made
            good, made = started[i % processes][1].recv()
            if not good:
                raise made
            found.append(made)
    except EOFError:
        raise RuntimeError("a process of this report was killed; is there too little memory?") from None
    finally:
        for process, ours in started:
            ours.close()
            process.terminate()
            process.join()
    return found


def _work(function: Callable[[int], T], places: range, its: Connection) -> None:
    for i in places:
        try:
            made = True, function(i)
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the work was asked for
            its.send((False, error))
            return
        its.send(made)
