"""What this machine, its GPU and its libraries can measure, and what they can't."""

from __future__ import annotations

import os
import shutil

import psutil
import torch

from ..data.cache import cache_folder
from ..data.wheels import unpacked_in
from ..measure import energy, nvml
from ..measure.clock import taken_by
from ..measure.environment import cuda_available, describe, has_bfloat16
from ..measure.memory import can_reset_high_water_mark
from ..tables.flops import peak_flops_per_s


def doctor() -> str:
    """One line a finding."""
    device = "cuda" if cuda_available() else "cpu"
    found = describe(device)
    gpu = (
        f"{found['gpu']}, driver {found['driver']}, CUDA {found['cuda']}"
        if found["gpu"]
        else "none that torch sees"
    )
    cache = cache_folder()
    ready = sorted(path.name for path in unpacked_in().glob("[!.]*"))
    memory = psutil.virtual_memory()
    if device == "cuda":
        peak = "peak allocated and peak reserved, from torch's allocator"
    elif can_reset_high_water_mark():
        peak = "peak resident set above the model, from the kernel's high-water mark"
    else:
        peak = "peak resident set above the model, sampled every 5 ms (the kernel's mark can't be reset here)"
    lines = [
        (
            "processor",
            f"{found['processor']}, {found['cores']} cores, {found['threads']} threads used by torch",
        ),
        ("memory", f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"),
        ("gpu", gpu),
        (
            "bfloat16",
            "native: the default compute type"
            if has_bfloat16(device)
            else "not native: float32 is the default",
        ),
        ("memory meter", peak),
        ("step timer", "synchronized with the GPU" if device == "cuda" else "wall clock"),
        (
            "processes",
            "forked from a warm worker"
            if hasattr(os, "fork")
            else "one after the other in one worker: no fork",
        ),
        (
            "load",
            f"{os.getloadavg()[0]:.1f} runnable processes on average"
            if hasattr(os, "getloadavg")
            else "unknown",
        ),
        ("latency timer", taken_by(torch.device(device))),
        ("memory by kind", "measured, by following every tensor"),
        ("flop utilisation", _utilisation(found["gpu"])),
        ("energy", _or_why(energy.why_not(device), "measured")),
        ("gpu clocks", _or_why("no GPU" if device == "cpu" else nvml.available(), "measured")),
        (
            "torch.compile",
            "possible" if shutil.which("g++") or shutil.which("clang++") else "no C++ compiler",
        ),
        ("cuda graphs", "possible" if device == "cuda" else "not here: no GPU"),
        ("cache", f"{cache} (wheels unpacked there: {', '.join(ready) or 'none'})"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found["libraries"].items())),
    ]
    return "\n".join(f"{name + ':':<17} {text}" for name, text in lines)


def _or_why(reason: str | None, otherwise: str) -> str:
    return otherwise if reason is None else f"not here: {reason}"


def _utilisation(gpu: str | None) -> str:
    if gpu is None:
        return "operations are counted; no processor's peak is known"
    known = peak_flops_per_s(gpu, "bfloat16") or peak_flops_per_s(gpu, "float32")
    return "measured" if known else f"operations are counted; the peak of {gpu} is not known"
