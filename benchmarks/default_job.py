"""Wall time and memory of the default job, after set-up. Goal: at most 8 minutes and 3 GB on two cores.

    python benchmarks/default_job.py

Memory is the proportional set size (PSS) of the program and all its processes, sampled twice a second: pages that
processes share count once. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import psutil


def tree_pss_bytes(root: psutil.Process) -> int:
    """PSS of a process and its descendants."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        command = [
            sys.executable,
            "-m",
            "peftbench",
            "run",
            "--methods",
            "lora,adapter,prefix",
            "--store",
            store,
        ]
        started = time.monotonic()
        job = subprocess.Popen(command)
        process, peak = psutil.Process(job.pid), 0
        while job.poll() is None:
            try:
                peak = max(peak, tree_pss_bytes(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.5)
        wall_s = time.monotonic() - started
    print("\n| default job | measured | goal |\n|---|---|---|")
    print(f"| wall time, min | {wall_s / 60:.1f} | 8 |\n| peak PSS, GB | {peak / 1e9:.2f} | 3 |")
    sys.exit(job.wait())


if __name__ == "__main__":
    main()
