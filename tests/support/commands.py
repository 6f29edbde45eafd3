"""The program as its users start it, on the tiny model and task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TINY = ["--model", "tiny-encoder", "--task", "synthetic:train_items=64:test_items=40", "--steps", "3"]


def peftbench(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "peftbench", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False)
