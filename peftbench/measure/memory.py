"""Peak memory of one phase, by a name that says what was counted.

On CUDA: the allocator's peaks, allocated and reserved. On a CPU: the resident set of this process, above what it was
with the loaded model, from the kernel's own high-water mark where it can be reset, else from a sampler. Unknown is
None, never 0.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

SAMPLE_PERIOD_S = 0.005


@dataclass(frozen=True)
class PeakMemory:
    """Bytes. Those of the other device kind are None."""

    taken_by: str  # "cuda allocator", "kernel high-water mark" or "sampler"
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_resident_bytes: int | None = None
    peak_above_model_bytes: int | None = None  # resident, above the loaded and adapted model

    @property
    def headline_bytes(self) -> int | None:
        """What a table shows: allocated on CUDA, resident above the model on a CPU. Not comparable with each other."""
        return (
            self.peak_allocated_bytes
            if self.peak_allocated_bytes is not None
            else self.peak_above_model_bytes
        )


class MemoryMeter:
    """Measures phases of one process. `mark_model` once the model is loaded, then `phase()` around each phase."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.model_bytes = 0
        self.last: PeakMemory | None = None

    def mark_model(self, model: nn.Module) -> None:
        """Note what the process holds with the model in place.

        Weights mapped from a file become resident only when they are read, and freed memory stays with the process:
        both would blur the mark.
        """
        if self.device.type == "cuda":
            return
        for tensor in (*model.parameters(), *model.buffers()):
            if not tensor.is_meta:
                tensor.sum()
        gc.collect()
        _return_freed_memory()
        self.model_bytes = psutil.Process().memory_info().rss

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure the peak of the block; the figure is in `last` afterwards, also when the block fails."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            try:
                yield
            finally:
                torch.cuda.synchronize(self.device)
                self.last = PeakMemory(
                    "cuda allocator",
                    peak_allocated_bytes=torch.cuda.max_memory_allocated(self.device),
                    peak_reserved_bytes=torch.cuda.max_memory_reserved(self.device),
                )
        elif can_reset_high_water_mark():
            try:
                yield
            finally:
                self.last = self._resident("kernel high-water mark", _high_water_mark())
        else:
            with _sampled_peak() as peak:
                yield
            self.last = self._resident("sampler", peak[0])

    def _resident(self, taken_by: str, peak: int) -> PeakMemory:
        above = max(0, peak - self.model_bytes)
        return PeakMemory(taken_by, peak_resident_bytes=peak, peak_above_model_bytes=above)


def can_reset_high_water_mark() -> bool:
    """Set the kernel's mark of this process to its present resident set. Linux only, and not in every container."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _high_water_mark() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def _return_freed_memory() -> None:
    """Give what the C allocator holds but does not use back to the system, where that can be asked for."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another C library
            pass


@contextmanager
def _sampled_peak() -> Iterator[list[int]]:
    process, peak, over = psutil.Process(), [0], threading.Event()

    def sample() -> None:
        while True:
            peak[0] = max(peak[0], process.memory_info().rss)
            if over.wait(SAMPLE_PERIOD_S):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
