"""`peftbench run` as a program that is ended in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

WAITS = """
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("waits", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Waits(LoRA):
    def inject(self, model):
        if next(model.parameters()).device.type != "meta":
            __import__("time").sleep(600)
        return super().inject(model)
"""


def started(home: Path, store: str) -> subprocess.Popen[str]:
    """A comparison in the middle of its second run."""
    command = [
        *(sys.executable, "-m", "peftbench", "run", "--methods", "lora,waits", "--plugins", "waits.py", "--no-baselines"),
        *("--model", "tiny-encoder", "--task", "synthetic:train_items=64:test_items=40", "--latency-grid", "none"),
        *("--no-profile", "--seeds", "1", "--steps", "3", "--store", store),
    ]  # fmt: skip
    (home / "waits.py").write_text(WAITS)
    # A suite that was started in the background is deaf to Ctrl-C, and its programs would be so too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    program = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert program.stderr is not None
    for line in program.stderr:
        if line.startswith("[1/2]"):
            break
    time.sleep(2)
    return program


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as on Unix")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_what_is_finished_survives_an_end_in_the_middle(tmp_path: Path, kind: signal.Signals) -> None:
    """Ctrl-C says how to carry on; a kill leaves no process behind; either way one record stands, whole."""
    program = started(tmp_path, "runs")
    workers = psutil.Process(program.pid).children(recursive=True)
    assert len(workers) == 2  # the worker and the run in flight
    program.send_signal(kind)
    out, err = program.communicate(timeout=60)
    assert out == "" and program.returncode == (130 if kind == signal.SIGINT else -9)
    if kind == signal.SIGINT:
        assert "the same command carries on" in err
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    records = list((tmp_path / "runs").glob("*/*/record.json"))
    assert len(records) == 1 and json.loads(records[0].read_text())["status"] == "ok"
    if kind == signal.SIGINT:
        assert not list((tmp_path / "runs").glob(".run-*"))
