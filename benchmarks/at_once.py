"""Four seeds' runs, one after the other with all cores against side by side with a thread each: what `--jobs` gains.

    python benchmarks/at_once.py [--model minilm-l6] [--rounds 2]

Each round does both, in turns, on a quiet machine and then beside a neighbour that is at work half of the time, as a browser is.
Wall and CPU seconds are of the four runs alone: a fifth seed was done before, as in a comparison a cost run is, so that the memory
of one is known; and a command that finds everything in its store is timed too, and taken off.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = {
    "one by one, all cores": ["--jobs", "1", "--threads", str(os.cpu_count())],
    "side by side, one thread each": [],
}


def neighbour() -> None:
    """Work for 50 ms, rest for 50 ms."""
    while True:
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until:
            pass
        time.sleep(0.05)


def taken(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "peftbench", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu_s


def one(model: str, way: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as store:
        command = ["run", "--methods", "lora", "--no-baselines", "--no-profile", "--latency-grid", "none", "--steps", "30",
                   "--model", model, "--quiet", "--store", store, *WAYS[way], "--seeds"]  # fmt: skip
        taken([*command, "1"])
        command.append("5")
        wall_s, cpu_s = taken(command)
        found_s, found_cpu_s = taken(command)
        return wall_s - found_s, cpu_s - found_cpu_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    print("| machine | way | wall s | CPU s |\n|---|---|---|---|")
    for beside in ("quiet", "a neighbour half of the time"):
        other = multiprocessing.Process(target=neighbour, daemon=True)
        if beside != "quiet":
            other.start()
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for number in range(asked.rounds):
            for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
                found[way].append(one(asked.model, way))
        for way, times in found.items():
            wall_s, cpu_s = (statistics.median(values) for values in zip(*times, strict=True))
            print(f"| {beside} | {way} | {wall_s:.0f} | {cpu_s:.0f} |", flush=True)
        if other.pid is not None:
            other.kill()


if __name__ == "__main__":
    main()
