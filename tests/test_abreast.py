"""The same work on many things, on all processors."""

from __future__ import annotations

import os
import signal

import pytest

from peftbench import abreast
from peftbench.abreast import MANY

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one processor alone"
)


def test_many_are_made_by_others_and_few_are_not() -> None:
    made = abreast.abreast(lambda i: (i, "x" * 200_000, os.getpid()), 23, MANY)  # more than a pipe holds
    assert [i for i, _, _ in made] == list(range(23))
    assert len({pid for _, _, pid in made}) > 1 and os.getpid() not in {pid for _, _, pid in made}
    assert {pid for pid in abreast.abreast(lambda i: os.getpid(), 5, MANY - 1)} == {os.getpid()}
    assert abreast.abreast(lambda i: i, 0, MANY) == []


def test_what_one_raises_is_raised_and_one_that_dies_is_said() -> None:
    def bad(i: int) -> int:
        if i == 7:
            raise ValueError("the eighth")
        return i

    with pytest.raises(ValueError, match="the eighth"):
        abreast.abreast(bad, 20, MANY)

    def killed(i: int) -> int:
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with pytest.raises(RuntimeError, match="was killed"):
        abreast.abreast(killed, 20, MANY)
