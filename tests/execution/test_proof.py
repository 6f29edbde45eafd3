"""Fingerprints see every bit, and merging is tested where models read a layer's type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peftbench.execution import proof
from peftbench.execution.execute import execute
from peftbench.records.runs import Conditions, Run


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.int8]
)
def test_a_fingerprint_sees_every_bit(dtype: torch.dtype) -> None:
    tensor = torch.zeros(proof.CHUNK + 5, dtype=dtype)
    before = proof.fingerprints({"t": tensor})
    assert proof.fingerprints({"t": tensor.clone()}) == before
    for index in (0, 77, proof.CHUNK - 1, proof.CHUNK, len(tensor) - 1):
        other = tensor.clone()
        other[index] = 1
        assert proof.changed(before, proof.fingerprints({"t": other})) == ["t"]
    swapped = tensor.clone()
    swapped[3] = 1
    moved = tensor.clone()
    moved[4] = 1
    assert proof.fingerprints({"t": swapped}) != proof.fingerprints({"t": moved})
    assert proof.changed(before, {}) == ["t"]


def test_a_negative_zero_is_another_bit() -> None:
    plus, minus = (proof.fingerprints({"t": torch.tensor([value])}) for value in (0.0, -0.0))
    assert plus != minus


def test_a_merge_is_tested_where_the_model_reads_the_type_of_its_layer(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """T5's feed-forward does."""
    record = execute(make_run("ia3", checkpoint("t5"), learning_rate=1e-2), tmp_path, Conditions(threads=1))
    merge = next(one for one in record.checks or () if one["name"] == "merge")
    assert merge["outcome"] == "pass", merge
