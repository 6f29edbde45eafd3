"""What the driver's management library says of the GPU in use. Optional: `pip install nvidia-ml-py`.

Everything is None where the library, the driver or the counter is missing; nothing is estimated.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class GpuState:
    """A reading of the GPU. None: the driver does not say."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttle_reasons: tuple[str, ...] | None  # that hold the clock down now; empty: none


def available() -> str | None:
    """Why nothing can be read, or None."""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        return None
    except Exception as error:  # noqa: BLE001  the library's own class is not known to a type checker
        return f"the driver does not answer: {error}"


def gpu_state() -> GpuState | None:
    """Clocks, temperature, power and what throttles."""
    ready = _gpu()
    if ready is None:
        return None
    nvml, gpu = ready
    reasons = _read(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
    power_mw = _read(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
    return GpuState(
        sm_clock_mhz=_read(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        memory_clock_mhz=_read(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
        max_sm_clock_mhz=_read(lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        temperature_c=_read(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        power_w=None if power_mw is None else power_mw / 1000,
        throttle_reasons=None if reasons is None else _names(nvml, reasons),
    )


def state_now(device: torch.device) -> dict[str, Any] | None:
    """The reading as a record holds it; None on a CPU."""
    state = gpu_state() if device.type == "cuda" else None
    return None if state is None else dataclasses.asdict(state)


def process_bytes() -> int | None:
    """GPU memory that the driver counts for this process: contexts and libraries too, unlike the allocator's.

    In a container the list has the host's process numbers; a process that is alone on the GPU is taken for this one.
    """
    ready = _gpu()
    if ready is None:
        return None
    nvml, gpu = ready
    listed: list[Any] = _read(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or []
    own = [process for process in listed if process.pid == os.getpid()] or (
        listed if len(listed) == 1 else []
    )
    return int(own[0].usedGpuMemory) if own and own[0].usedGpuMemory is not None else None


def energy_mj() -> int | None:
    """Millijoules that the GPU has used since its driver was loaded."""
    ready = _gpu()
    return None if ready is None else _read(lambda: ready[0].nvmlDeviceGetTotalEnergyConsumption(ready[1]))


def card() -> str:
    """The first GPU that this process may see, by the name that the driver knows it by.

    By its UUID where CUDA tells it: CUDA and the driver number cards in orders of their own.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    if not visible.isdecimal() or not torch.cuda.is_initialized():
        return visible
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return visible if uuid is None else f"GPU-{uuid}"


def _gpu() -> tuple[Any, Any] | None:
    """The library and a handle on the first GPU that this process may see."""
    if available() is not None:
        return None
    import pynvml

    first = card()
    handle = _read(
        lambda: (
            pynvml.nvmlDeviceGetHandleByIndex(int(first))
            if first.isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(first)
        )
    )
    return None if handle is None else (pynvml, handle)


def _read(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception:  # noqa: BLE001  not supported on this GPU, or not allowed
        return None


def _names(nvml: Any, reasons: int) -> tuple[str, ...]:
    """The reasons that are set; an idle GPU and clocks that an application has set do not hold anything down."""
    known = {
        "SwPowerCap": "power cap",
        "HwSlowdown": "hardware slowdown",
        "SyncBoost": "sync boost",
        "SwThermalSlowdown": "thermal slowdown (driver)",
        "HwThermalSlowdown": "thermal slowdown (hardware)",
        "HwPowerBrakeSlowdown": "power brake",
    }
    found = []
    for name, said in known.items():
        bit = getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)
        if reasons & bit:
            found.append(said)
    return tuple(found)
