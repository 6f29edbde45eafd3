"""Where a result was measured: machine, devices, threads and library versions."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from ..engine.protocol import Capacity, Device
from ..records.runs import ALONE, Conditions

CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")
# A run on a GPU may take their kernels without a word; on a processor it takes one that it imports.
KERNEL_LIBRARIES = ("peft", "bitsandbytes", "triton", "flash-attn")


@functools.cache
def processor() -> str:
    """The processor's marketing name, or what the platform calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def git_commit() -> str | None:
    """The commit of this program's own checkout, where it runs from one; `+` marks uncommitted changes."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(here)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def versions(device: str = "cpu") -> dict[str, str]:
    """Versions of the libraries that a result depends on, and of this program."""
    found = {"python": platform.python_version()}
    kernels = [name for name in KERNEL_LIBRARIES if device == "cuda" or name.replace("-", "_") in sys.modules]
    for name in ("peftbench", *LIBRARIES, *kernels):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe(device: str, conditions: Conditions = ALONE) -> dict[str, Any]:
    """What a record says of where it was measured."""
    import torch

    found: dict[str, Any] = {
        "libraries": versions(device),
        "git_commit": git_commit(),
        "machine": platform.node(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": torch.get_num_threads(),
        "jobs": conditions.jobs,
        "gpu": None,
        "driver": None,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "gpu_uuid": str(getattr(properties, "uuid", None) or "")
            or None,  # CUDA and the driver count cards in orders of their own
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "allocator": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
        found["driver"] = _driver()
    return found


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
        )
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def cuda_available() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def capacity() -> Capacity:
    """What devices this machine has."""
    import torch

    own = Device("cpu", 1, granted_bytes(), has_bfloat16("cpu"))
    devices: tuple[Device, ...] = (own,)
    if cuda_available():
        memory = int(torch.cuda.get_device_properties(0).total_memory)
        devices = (Device("cuda", int(torch.cuda.device_count()), memory, has_bfloat16("cuda")), own)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Capacity(devices, cores)


def granted_bytes() -> int:
    """The memory of this machine, or less where the system grants this process less."""
    limits = [psutil.virtual_memory().total]
    for file in CGROUP:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(limits)


def has_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 run at speed here, not emulated."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
