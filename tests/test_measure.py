"""The meters against truth that is known by arithmetic."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from peftbench import Adaptation, stats
from peftbench.measure import memory
from peftbench.measure.latency import measure_latency
from peftbench.measure.memory import MemoryMeter
from peftbench.measure.parameters import count, save
from peftbench.runs import Run

from .test_contract import adapted, logits

MB = 1_000_000


class Sleepy(nn.Module):
    """A layer that takes a known time, and folds to one that takes another."""

    def __init__(self, seconds: float, folded_s: float) -> None:
        super().__init__()
        self.seconds, self.folded_s = seconds, folded_s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return x

    def fold(self) -> nn.Module:
        return Sleepy(self.folded_s, 0.0)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=50, max_position_embeddings=64)
        self.layer: nn.Module = Sleepy(0.002, 0.0)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(input_ids)
        return out


def test_latency_finds_a_known_slowdown_and_a_merge_without_cost() -> None:
    model = Toy()
    base, wrapper = model.layer, Sleepy(0.0024, folded_s=0.002)
    model.layer = wrapper
    adaptation = Adaptation(model, {}, swaps={"layer": (base, wrapper)})
    cells = measure_latency(adaptation, ((1, 8), (1, 65)), torch.device("cpu"), rounds=60)
    slow = stats.slowdown(cells[0].base_ms, cells[0].unmerged_ms)
    # Busy waiting ends late by what a neighbour takes away; medians of ratios forgive most of it.
    assert slow.value == pytest.approx(0.2, abs=0.05)
    assert cells[0].merged_ms is not None
    assert abs(stats.slowdown(cells[0].base_ms, cells[0].merged_ms).value) < 0.05
    assert min(cells[0].base_ms) >= 2.0 and len(cells[0].base_ms) == 60
    assert cells[1].base_ms == [] and cells[1].refusal == "the model takes at most 64 tokens"
    assert model.layer is wrapper


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
    with meter.phase():
        pass
    assert meter.last.peak_above_model_bytes < 30 * MB  # what came before is forgotten
    assert (
        meter.last.peak_allocated_bytes is None
        and meter.last.headline_bytes == meter.last.peak_above_model_bytes
    )
    assert meter.last.taken_by == {"kernel": "kernel high-water mark", "sampler": "sampler"}[by]


def test_shared_tensors_count_and_save_once(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(100, 10))
    assert count([weight, weight]) == 1000
    size = save({"a": weight, "b": weight}, tmp_path / "x.safetensors")
    assert 4000 < size < 4300 and size == (tmp_path / "x.safetensors").stat().st_size


def test_base_and_merged_are_what_they_say_while_timed(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """The model comes out of a latency measurement with the same outputs as it went in."""
    for method in ("lora", "prefix", "adapter"):
        prepared = adapted(make_run(method, checkpoint("bert")))
        before = logits(prepared)
        cells = measure_latency(prepared.adaptation, ((2, 8),), torch.device("cpu"), rounds=2)
        assert torch.equal(logits(prepared), before)
        assert (cells[0].merged_ms is not None) == (method == "lora")
