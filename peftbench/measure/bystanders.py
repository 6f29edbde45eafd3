"""What other processes did to the device while a run trained: a busy neighbour makes a step look slow.

On a CPU: their share of all processor time, from the system's counters. On CUDA: the processes that the driver lists
beside this one. Unknown is None.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

import psutil
import torch

from . import nvml


@dataclass(frozen=True)
class Seen:
    """Of the time between `Bystanders(...)` and `seen()`."""

    others_cpu_share: float | None  # of all cores' time, taken by other processes
    others_on_gpu: int | None  # processes that used the GPU, without this one


class Bystanders:
    """Watches from its creation on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = time.monotonic()
        self.busy_s, self.own_s = _busy_s(), _own_s()

    def used_s(self) -> float:
        """Processor time of this process since."""
        return _own_s() - self.own_s

    def seen(self, own_s: float | None = None) -> Seen:
        """What there was since.

        Args:
            own_s: processor time of all processes that are no bystanders; None: this one's.
        """
        cores, wall = os.cpu_count() or 1, max(time.monotonic() - self.started, 1e-9)
        others = (_busy_s() - self.busy_s) - (self.used_s() if own_s is None else own_s)
        # The counters tick a hundred times a second: shorter spans say nothing.
        share = min(1.0, max(0.0, others / (cores * wall))) if wall > 0.5 else None
        return Seen(share, _processes_on_gpu() if self.device.type == "cuda" else None)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _own_s() -> float:
    return time.process_time()


def _processes_on_gpu() -> int | None:
    """How many processes compute on this GPU beside this one, by the driver's list.

    In a container the list has the host's process numbers, so this process can't be told by its own: one is taken off.
    """
    command = ["nvidia-smi", f"--id={nvml.card()}", "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return max(0, len([line for line in listed.splitlines() if line.strip()]) - 1)
