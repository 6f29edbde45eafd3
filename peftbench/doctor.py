"""What this machine, its GPU and its libraries can measure, and what they can't."""

from __future__ import annotations

import os

import psutil

from .assets import ASSETS, cache_folder
from .environment import cuda_available, describe, has_bfloat16
from .measure.memory import can_reset_high_water_mark


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
    ready = [name for name, asset in ASSETS.items() if (cache / "assets" / asset.folder).is_dir()]
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
        ("energy", "not measured"),
        ("cache", f"{cache} (starter assets there: {', '.join(ready) or 'none'})"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found["libraries"].items())),
    ]
    return "\n".join(f"{name + ':':<14} {text}" for name, text in lines)
