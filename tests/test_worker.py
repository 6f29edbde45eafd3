"""The worker: how it hears of a job's end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NoReturn

import pytest

from peftbench import worker


def refused(process: int) -> NoReturn:
    raise OSError(38, "Function not implemented")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a worker without fork has no children")
@pytest.mark.parametrize("is_told", [True, False])
def test_it_waits_for_a_child_and_for_no_longer(is_told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel has no pidfd_open, as Linux before 5.3: then it looks again and again."""
    theirs, ours = os.pipe()  # in the place of stdin, from which nothing comes
    before = os.dup(0)
    os.dup2(theirs, 0)
    if not is_told:
        monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(.3)"])
    try:
        begun, looks = time.monotonic(), 0
        while child.poll() is None and time.monotonic() - begun < 30:
            worker._wait({child.pid: 1})
            looks += 1
        assert child.poll() == 0
        assert looks <= 2 if is_told and sys.platform == "linux" else looks > 2
    finally:
        child.kill()
        child.wait()
        os.dup2(before, 0)
        for end in (theirs, ours, before):
            os.close(end)
