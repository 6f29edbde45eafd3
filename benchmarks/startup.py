"""How long `peftbench --help` takes against `python -c "import typer"`, interleaved. Goal: at most 1.3 times.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "import typer": [sys.executable, "-c", "import typer"],
    "peftbench --help": [sys.executable, "-m", "peftbench", "--help"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    print("| command | median ms |\n|---|---|")
    for name, seconds in medians.items():
        print(f"| `{name}` | {seconds * 1e3:.0f} |")
    print(f"\nratio {statistics.median(ratios):.2f} (goal: at most 1.3), {ROUNDS} interleaved rounds")


if __name__ == "__main__":
    main()
