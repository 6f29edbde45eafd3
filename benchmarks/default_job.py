"""Wall and CPU time and memory of the default job, after set-up. Goal: at most 6 minutes on two AVX2 cores in float32, 2.5 on two
with bfloat16, and 3 GB.

    python benchmarks/default_job.py

Memory is the proportional set size (PSS) of the program and all its processes, sampled twice a second: pages that
processes share count once. The machine's rate of matrix products stands beside, before and after, so that a slow hour can be told
from a slow program. Linux only.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from peftbench.measure.environment import has_bfloat16
from peftbench.records.store import Store


def tree_pss_bytes(root: psutil.Process) -> int:
    """PSS of a process and its descendants."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def matrix_rate_per_s(threads: int, dtype: torch.dtype) -> float:
    """Operations a second of products of 768 x 768 matrices."""
    torch.set_num_threads(threads)
    a, b = torch.randn(768, 768).to(dtype), torch.randn(768, 768).to(dtype)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * 768**3 / statistics.median(times[10:])


def rates() -> str:
    """With one thread and with all, in the type that runs compute in here."""
    dtype = torch.bfloat16 if has_bfloat16("cpu") else torch.float32
    of_all = psutil.cpu_count() or 1
    each = (f"{matrix_rate_per_s(n, dtype) / 1e9:,.0f}" for n in dict.fromkeys((1, of_all)))
    return f"{'/'.join(each)} with 1/{of_all} threads in {str(dtype).removeprefix('torch.')}"


def by_kind(store: Path) -> dict[str, tuple[int, float]]:
    """Of each kind of run, how many there were and the seconds that they took together; several may have run at once."""
    found: dict[str, tuple[int, float]] = {}
    for stored in Store(store).all():
        count, seconds = found.get(stored.record.run.kind, (0, 0.0))
        found[stored.record.run.kind] = count + 1, seconds + stored.record.wall_s
    return found


def main() -> None:
    before = rates()
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
        kinds = by_kind(Path(store))
    status = job.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    goal_min = 2.5 if has_bfloat16("cpu") else 6
    print("\n| default job | measured | goal |\n|---|---|---|")
    print(f"| wall time, min | {wall_s / 60:.1f} | {goal_min} |\n| peak PSS, GB | {peak / 1e9:.2f} | 3 |")
    print(f"| CPU time, min | {(used.ru_utime + used.ru_stime) / 60:.1f} | |")
    for kind, (count, seconds) in sorted(kinds.items()):
        print(f"| {count} {kind} runs, s each added up | {seconds:,.0f} | |")
    print(f"| products of matrices, GFLOP/s, before | {before} | |\n| after | {rates()} | |")
    sys.exit(status)


if __name__ == "__main__":
    main()
