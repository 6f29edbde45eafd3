"""Part `steps`: seconds, peak memory and kernel launches of a training step, all subjects interleaved in one process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peftbench.measure.turns import turns

from .checkpoints import checkpoint, texts
from .subjects import REFUSALS, Subject, ground, subjects_of

METHODS = ("lora", "qlora", "adapter", "prefix", "dora")
PACKED = ("lora", "adapter", "dora")  # what stands before a text can't be packed
OWN_WEIGHTS = ("full",)  # fits beside the others at 1b
WARMUP = 3


def measure(
    size: str,
    packing: bool,
    shape: tuple[int, int],
    rounds: int,
    work: Path,
    write: Callable[[dict[str, Any]], None],
) -> None:
    """Time steps of every subject in turns.

    Args:
        packing: runs here pack texts of uneven lengths into rows of eight times the length; the others pad them.
        shape: items of a batch, and tokens of one.
        write: is given what is known so far, after the subjects are made and at the end.
    """
    folder = checkpoint(size, work)
    methods = PACKED if packing else METHODS if size == "8b" else METHODS + OWN_WEIGHTS
    steps = WARMUP + rounds + 2  # one is looked at by the profiler
    task = texts(shape[1], 200, 4, work, uneven=packing)
    room = shape[1] * (8 if packing else 1)
    on, runs = ground(methods, str(folder), task, (shape[0], room), 8, packing)
    found: dict[str, dict[str, Any]] = {}
    subjects: dict[str, Subject] = {}
    said: dict[str, Any] = {
        "size": size,
        "batch": shape[0],
        "length": shape[1],
        "packing": packing,
        "weights": on.run.weights,
        "dtype": on.run.dtype,
    }
    refused = {
        method: "not supported" for method in methods if not any(name.startswith(method) for name in runs)
    }
    for name, make in subjects_of(on, runs, steps, OWN_WEIGHTS):
        before = _allocated(on.device)
        try:
            subject = make()
            for _ in range(WARMUP):  # the optimizer's state comes with the first
                subject.step()
        except REFUSALS as error:
            refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            gc.collect()
            continue
        subjects[name] = subject
        found[name] = {
            "trained": subject.trained,
            "own_bytes": _since(before, on.device),
            "step_s": [],
            "peak_bytes": None,
        }
        write(said | {"subjects": found, "refused": refused})
    for order in turns(list(subjects), rounds):
        for name in order:
            if on.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found[name]["step_s"].append(subjects[name].step())
            if on.device.type == "cuda":
                # What the others keep between their steps is not this one's.
                others = sum(of["own_bytes"] or 0 for other, of in found.items() if other != name)
                peak = torch.cuda.max_memory_allocated() - others
                found[name]["peak_bytes"] = max(peak, found[name]["peak_bytes"] or 0)
    for name, subject in subjects.items():
        found[name]["launches"] = _launches(subject, on.device)
    write(said | {"subjects": found, "refused": refused})


def _allocated(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


def _since(before: int | None, device: torch.device) -> int | None:
    now = _allocated(device)
    return None if now is None or before is None else now - before


def _launches(subject: Subject, device: torch.device) -> dict[str, int]:
    """Kernels launched in a step, or on a CPU operators called; and the ten kinds that take most time, microseconds each."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        subject.step()
    events = profile.key_averages()
    if device.type != "cuda":
        return {"operators": sum(e.count for e in events if e.key.startswith("aten::"))}
    count = sum(e.count for e in events if "LaunchKernel" in e.key)
    longest = sorted(events, key=lambda e: -e.self_device_time_total)[:10]
    return {"kernels": count} | {e.key[:80]: round(e.self_device_time_total) for e in longest}
