"""Broken inputs of each kind, thousands of them: how many, and with which status the program ended. No traceback, stores intact.

python benchmarks/fuzz.py [TIMES]    so many times as many as in the tests; default 10
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests" / "house" / "test_broken_inputs.py"


def main() -> int:
    times = sys.argv[1] if len(sys.argv) > 1 else "10"
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0", str(TESTS)]
    environment = {**os.environ, "PEFTBENCH_FUZZ": times, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
