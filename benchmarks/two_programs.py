"""Wall time of two programs that share one store, over that of one, and how many runs were done twice.

    python benchmarks/two_programs.py [--seeds 6] [--steps 60]

Each does one run at a time (`--jobs 1`) with one thread, on a machine with two cores or more. Interleaved, three rounds, each into stores of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    command = ["run", "--methods", "lora", "--no-baselines", "--no-profile", "--latency-grid", "none", "--seeds", str(asked.seeds), "--steps", str(asked.steps), "--jobs", "1", "--quiet", "--format", "csv"]  # fmt: skip
    print(
        "| round | one program, s | two programs, s | ratio | runs | done twice |\n|---|---|---|---|---|---|"
    )
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, ROUNDS + 1):
            one, two = (
                seconds(command, Path(scratch) / f"{number}-{programs}", programs) for programs in (1, 2)
            )
            attempts = list((Path(scratch) / f"{number}-2").glob("*/[0-9]*"))
            runs = len({attempt.parent for attempt in attempts})
            ratios.append(two / one)
            print(f"| {number} | {one:.1f} | {two:.1f} | {two / one:.2f} | {runs} | {len(attempts) - runs} |", flush=True)  # fmt: skip
    print(f"\nMiddle ratio {statistics.median(ratios):.2f}.")


def seconds(command: list[str], store: Path, programs: int) -> float:
    """Until all programs have ended."""
    begun = time.perf_counter()
    started = [
        subprocess.Popen([sys.executable, "-m", "peftbench", *command, "--store", str(store)], stdout=subprocess.DEVNULL)
        for _ in range(programs)
    ]  # fmt: skip
    if any(program.wait() for program in started):
        raise SystemExit("a program failed; see above")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
