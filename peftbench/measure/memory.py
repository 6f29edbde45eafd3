"""Peak memory of one phase, by a name that says what was counted.

On CUDA: the allocator's peaks, allocated and reserved. On a CPU: the resident set of this process, above what it was
with the loaded base model, from the kernel's own high-water mark where it can be reset, else from a sampler. Unknown is
None, never 0.
"""

from __future__ import annotations

import ctypes
import dataclasses
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

from . import nvml

SAMPLE_PERIOD_S = 0.005


@dataclass(frozen=True)
class PeakMemory:
    """Bytes. Those of the other device kind are None."""

    taken_by: str  # "cuda allocator", "kernel high-water mark" or "sampler"
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_resident_bytes: int | None = None
    peak_above_model_bytes: int | None = None  # resident, above the loaded base model
    process_bytes: int | None = (
        None  # by the driver at the end, with contexts and libraries; needs nvidia-ml-py
    )
    all_ranks_bytes: int | None = (
        None  # of a run in several processes: what a table shows, of all of them together
    )

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
        self.sampler: _Sampler | None = None

    def mark_model(self, model: nn.Module, added_bytes: int = 0) -> None:
        """Note what the process holds with the model in place.

        Args:
            added_bytes: of it what a method keeps beside the base, which counts as the method's.

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
        self.model_bytes = psutil.Process().memory_info().rss - added_bytes

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure the peak of the block; the figure is in `last` afterwards, also when the block fails."""
        self.last = None
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside a phase: what the block takes does not count."""
        self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()  # else what an earlier phase reserved counts as this one's
            torch.cuda.reset_peak_memory_stats(self.device)
        elif not can_reset_high_water_mark():
            self.sampler = _Sampler()

    def _end(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            found = PeakMemory(
                "cuda allocator",
                peak_allocated_bytes=torch.cuda.max_memory_allocated(self.device),
                peak_reserved_bytes=torch.cuda.max_memory_reserved(self.device),
                process_bytes=nvml.process_bytes(),
            )
        elif self.sampler is not None:
            found, self.sampler = self._resident("sampler", self.sampler.stop()), None
        else:
            found = self._resident("kernel high-water mark", _high_water_mark())
        self.last = found if self.last is None else higher(self.last, found)

    def _resident(self, taken_by: str, peak: int) -> PeakMemory:
        above = max(0, peak - self.model_bytes)
        return PeakMemory(taken_by, peak_resident_bytes=peak, peak_above_model_bytes=above)


def higher(one: PeakMemory, other: PeakMemory) -> PeakMemory:
    """Of two parts of a phase, or two processes of a run, the higher figure of each kind."""
    sizes = {
        f.name: max((v for p in (one, other) if (v := getattr(p, f.name)) is not None), default=None)
        for f in dataclasses.fields(PeakMemory)
        if f.name != "taken_by"
    }
    return PeakMemory(one.taken_by, **sizes)


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


class _Sampler:
    """Reads the resident set from a thread, from its creation until it is stopped."""

    def __init__(self) -> None:
        self.process, self.peak, self.over = psutil.Process(), 0, threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def stop(self) -> int:
        """The highest reading in bytes."""
        self.over.set()
        self.thread.join()
        return self.peak

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, self.process.memory_info().rss)
            if self.over.wait(SAMPLE_PERIOD_S):
                return
