"""Numbers and bytes: what is shared counts and is saved once."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from peftbench.measure.parameters import count, save


def test_shared_tensors_count_and_save_once(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.zeros(100, 10))
    assert count([weight, weight]) == 1000
    size = save({"a": weight, "b": weight}, tmp_path / "x.safetensors")
    assert 4000 < size < 4300 and size == (tmp_path / "x.safetensors").stat().st_size
