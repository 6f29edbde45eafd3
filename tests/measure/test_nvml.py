"""What the driver's library says of a GPU."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peftbench.measure import energy, nvml


class Driver:
    """The parts of nvidia-ml-py that are used, with known answers."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksThrottleReasonSwPowerCap = 4
    nvmlClocksThrottleReasonHwSlowdown = 8
    energy = 1000

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu {index}"

    def nvmlDeviceGetClockInfo(self, gpu: str, kind: int) -> int:
        return 1000 * kind

    def nvmlDeviceGetMaxClockInfo(self, gpu: str, kind: int) -> int:
        return 1980

    def nvmlDeviceGetTemperature(self, gpu: str, kind: int) -> int:
        return 55

    def nvmlDeviceGetPowerUsage(self, gpu: str) -> int:
        raise OSError("not supported")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:
        return 4 | 1

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:
        self.energy += 2500
        return self.energy

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: str) -> list[Any]:
        return [SimpleNamespace(pid=os.getpid(), usedGpuMemory=7), SimpleNamespace(pid=1, usedGpuMemory=9)]


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    state = nvml.gpu_state()
    assert state == nvml.GpuState(1000, 2000, 1980, 55, None, ("power cap",))
    assert nvml.process_bytes() == 7
    assert energy.EnergyMeter("cuda").used() == energy.Energy("NVML total energy", 2.5)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert nvml.gpu_state() is None and nvml.process_bytes() is None
    assert nvml.available() == "nvidia-ml-py is not installed" == energy.why_not("cuda")


def test_the_card_is_found_by_its_uuid_and_not_by_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert nvml.card() == "0"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="1-2-3"))
    assert nvml.card() == "GPU-1-2-3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4-5")  # a part of a card is no card
    assert nvml.card() == "MIG-4-5"
