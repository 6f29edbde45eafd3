"""Peak memory, memory by kind, arithmetic and energy against truth that is known beforehand."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from peftbench.measure import energy, memory, nvml
from peftbench.measure.arithmetic import count_flops
from peftbench.measure.breakdown import MemoryByKind, memory_by_kind
from peftbench.measure.memory import MemoryMeter
from peftbench.measure.parameters import count, save
from peftbench.tables.flops import flops_of, peak_flops_per_s

MB = 1_000_000
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("by", ["kernel", "sampler"])
def test_peak_is_that_of_the_phase_above_the_model(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "sampler":
        monkeypatch.setattr(memory, "can_reset_high_water_mark", lambda: False)
    elif not memory.can_reset_high_water_mark():
        pytest.skip("the kernel's mark can't be reset here")
    big = torch.ones(50 * MB)  # 200 MB before the model is marked, gone before the phase
    del big
    model = nn.Linear(1000, 1000)
    meter = MemoryMeter(torch.device("cpu"))
    meter.mark_model(model)
    with meter.phase():
        held = torch.ones(25 * MB)  # 100 MB
        time.sleep(0.05)
        del held
    assert meter.last is not None and meter.last.peak_above_model_bytes is not None
    assert meter.last.peak_above_model_bytes == pytest.approx(100 * MB, abs=10 * MB)
    with meter.phase(), meter.paused():  # an evaluation in the middle of training
        held = torch.ones(25 * MB)
        time.sleep(0.05)
        del held
    assert (
        meter.last.peak_above_model_bytes < 30 * MB
    )  # what came before is forgotten, what was paused not seen
    assert (
        meter.last.peak_allocated_bytes is None
        and meter.last.headline_bytes == meter.last.peak_above_model_bytes
    )
    assert meter.last.taken_by == {"kernel": "kernel high-water mark", "sampler": "sampler"}[by]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_peak_on_cuda_is_that_of_the_phase() -> None:
    device = torch.device("cuda")
    big = torch.ones(50 * MB, device=device)
    del big
    meter = MemoryMeter(device)
    before = torch.cuda.memory_allocated(device)
    with meter.phase():
        held = torch.ones(25 * MB, device=device)
        del held
        with meter.paused():
            held = torch.ones(50 * MB, device=device)
            del held
    assert meter.last is not None and meter.last.peak_allocated_bytes is not None
    assert meter.last.peak_allocated_bytes - before == pytest.approx(100 * MB, abs=MB)


class Square(torch.autograd.Function):
    """x^2, with its input saved for backward and nothing else."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        product: torch.Tensor = gradient * 2 * x
        return product


def known_step(device: str, frozen: bool) -> tuple[MemoryByKind, dict[str, int]]:
    """One layer of n x n, a batch of b rows, AdamW with one tensor a step; and what it must hold at its peak."""
    n, b = 512, 2048
    model = nn.Sequential(nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)).to(device)
    model[0].weight.requires_grad_(not frozen)
    x = torch.randn(b, n, device=device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)

    def step() -> None:
        hidden = Square.apply(model[0](x))  # type: ignore[no-untyped-call]
        model[1](hidden).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = memory_by_kind(step, model, optimizer, torch.device(device))
    matrix, rows = 4 * n * n, 4 * b * n
    always = {
        "weights": 2 * matrix,
        "optimizer": (1 if frozen else 2) * (2 * matrix + 4),
    }  # two moments, a counter
    if frozen:
        # It peaks with the outputs: the trained layer has its input saved; the batch and the outputs are there too.
        return found, {**always, "gradients": 0, "activations": rows, "other": 2 * rows}
    # It peaks in the square's backward: saved are its input and the first layer's; besides `hidden`, three gradients.
    return found, {**always, "gradients": matrix, "activations": 2 * rows, "other": 4 * rows}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("frozen", [True, False])
def test_memory_by_kind_is_what_arithmetic_says(device: str, frozen: bool) -> None:
    found, expected = known_step(device, frozen)
    assert found.operator.startswith("aten.")
    for kind, size in expected.items():
        assert getattr(found, f"{kind}_bytes") == pytest.approx(size, abs=64), kind  # the loss is 4 bytes
    assert found.total_bytes == pytest.approx(sum(expected.values()), abs=64)
    if (
        device == "cuda"
    ):  # the step's tensors are gone, cuBLAS's workspace stays (64 MiB on Hopper), and is no tensor
        assert found.allocator_peak_bytes is not None
        own = found.allocator_peak_bytes - torch.cuda.memory_allocated()
        assert own == pytest.approx(found.total_bytes, rel=0.1)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_seen_where_the_optimizer_peaks(device: str) -> None:
    model = nn.Linear(1000, 1000, bias=False).to(device)  # 4 MB; the batch is nothing beside it
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step() -> None:
        model(torch.ones(1, 1000, device=device)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = memory_by_kind(step, model, optimizer, torch.device(device))
    assert found.gradients_bytes == 4 * MB and found.activations_bytes == 0
    assert found.other_bytes == pytest.approx(
        8 * MB, abs=64
    )  # the root of the second moment, and its quotient


def test_memory_by_kind_does_not_see_what_ran_before() -> None:
    first, _ = known_step("cpu", True)
    held = [torch.ones(5 * MB) for _ in range(3)]
    second, _ = known_step("cpu", True)
    assert first == second and len(held) == 3


def test_flops_are_those_of_the_products_and_of_attention() -> None:
    layer, x = nn.Linear(64, 32, bias=False), torch.randn(10, 64, requires_grad=True)
    assert (
        count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 10 * 64 * 32
    )  # forward, to input, to weight
    layer.weight.requires_grad_(False)
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * 2 * 10 * 64 * 32  # frozen: a third less
    heads = torch.randn(2, 4, 16, 8)  # (batch, heads, length, width)
    attend = nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attend(heads, heads, heads)) == 2 * (2 * 2 * 4 * 16 * 16 * 8)


def test_flops_of_other_widths_follow_from_three() -> None:
    def truth(tokens: int) -> int:
        return 7 * tokens * tokens + 1000 * tokens + 5

    counted = [(tokens, truth(tokens)) for tokens in (100, 400, 700)]
    assert flops_of(counted, [100, 250, 900]) == pytest.approx([truth(n) for n in (100, 250, 900)])
    assert flops_of(counted[:1], [100]) == [truth(100)]


def test_peaks_are_known_for_some_gpus_alone() -> None:
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_flops_per_s("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_flops_per_s("NVIDIA L40S", "bfloat16") == 362e12
    assert peak_flops_per_s("NVIDIA GeForce GTX 1060", "float32") is None
    assert peak_flops_per_s(None, "float32") is None


def test_energy_is_read_from_counters_that_wrap_or_not_at_all(tmp_path: Path) -> None:
    zones = [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1", tmp_path / "intel-rapl:0:0"]
    for zone, start in zip(zones, (1_000_000, 9_000_000, 5), strict=True):
        zone.mkdir()
        (zone / "energy_uj").write_text(str(start))
        (zone / "max_energy_range_uj").write_text("10000000")
    meter = energy.EnergyMeter("cpu", tmp_path)
    (zones[0] / "energy_uj").write_text("3000000")  # 2 J
    (zones[1] / "energy_uj").write_text("1000000")  # 2 J, over the end of its range
    (zones[2] / "energy_uj").write_text("999999")  # a part of the first, in it already
    with meter.paused():
        (zones[0] / "energy_uj").write_text("8000000")  # somebody else's
    assert meter.used() == energy.Energy("RAPL packages", 4.0)
    assert energy.EnergyMeter("cpu", tmp_path / "nothing").used() == energy.Energy(None, None)
    (zones[0] / "energy_uj").unlink()
    assert energy.EnergyMeter("cpu", tmp_path).used().energy_j is None  # half of a sum is not a sum


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


def test_shared_tensors_count_and_save_once(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(100, 10))
    assert count([weight, weight]) == 1000
    size = save({"a": weight, "b": weight}, tmp_path / "x.safetensors")
    assert 4000 < size < 4300 and size == (tmp_path / "x.safetensors").stat().st_size
