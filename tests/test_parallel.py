"""The same work on many things, on all processors."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from peftbench import PeftbenchError
from peftbench.parallel import MANY_RUNS, parallel_map

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one processor alone"
)


def test_many_are_made_by_others_and_few_are_not() -> None:
    def make(i: int) -> tuple[int, str, int]:
        time.sleep(0.05)  # else one process may be done with all before the other is there
        return i, "x" * 200_000, os.getpid()  # more than a pipe holds

    made = parallel_map(make, 23, MANY_RUNS)
    assert [i for i, _, _ in made] == list(range(23))
    assert len({pid for _, _, pid in made}) > 1 and os.getpid() not in {pid for _, _, pid in made}
    assert {pid for pid in parallel_map(lambda i: os.getpid(), 5, MANY_RUNS - 1)} == {os.getpid()}
    assert parallel_map(lambda i: i, 0, MANY_RUNS) == []


def test_what_one_raises_is_raised_and_one_that_dies_is_said() -> None:
    def bad(i: int) -> int:
        if i == 7:
            raise ValueError("the eighth")
        return i

    with pytest.raises(ValueError, match="the eighth"):
        parallel_map(bad, 20, MANY_RUNS)

    def killed(i: int) -> int:
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with pytest.raises(PeftbenchError, match="was killed"):
        parallel_map(killed, 20, MANY_RUNS)

    def unspeakable(i: int) -> object:
        return lambda: i

    with pytest.raises(Exception, match="pickle"):
        parallel_map(unspeakable, 20, MANY_RUNS)


def test_nothing_is_left_behind_where_the_report_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "report.py"
    script.write_text(
        "import time\n"
        "from peftbench.parallel import MANY_RUNS, parallel_map\n"
        "def slow(i):\n"
        "    time.sleep(0.05)\n"
        "    return 'x' * 300_000\n"
        "parallel_map(slow, 4000, MANY_RUNS)\n"
    )
    report = psutil.Popen([sys.executable, str(script)])
    for _ in range(200):
        if len(children := report.children()) > 1:
            break
        time.sleep(0.05)
    assert len(children) > 1
    report.kill()
    report.wait()
    _, alive = psutil.wait_procs(children, timeout=10)  # they look once a second
    assert not alive
