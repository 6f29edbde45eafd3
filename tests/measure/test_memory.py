"""Peak memory, memory by kind, arithmetic and energy against truth that is known beforehand."""

from __future__ import annotations

import sys
import time

import pytest
import torch
from torch import nn

from peftbench.measure import memory
from peftbench.measure.memory import MemoryMeter

MB = 1_000_000


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


@pytest.mark.cuda
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
