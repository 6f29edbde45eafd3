"""Fingerprints see every bit."""

from __future__ import annotations

import pytest
import torch

from peftbench.execution import fingerprints


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.int8]
)
def test_a_fingerprint_sees_every_bit(dtype: torch.dtype) -> None:
    tensor = torch.zeros(fingerprints.CHUNK + 5, dtype=dtype)
    before = fingerprints.fingerprints({"t": tensor})
    assert fingerprints.fingerprints({"t": tensor.clone()}) == before
    for index in (0, 77, fingerprints.CHUNK - 1, fingerprints.CHUNK, len(tensor) - 1):
        other = tensor.clone()
        other[index] = 1
        assert fingerprints.changed(before, fingerprints.fingerprints({"t": other})) == ["t"]
    swapped = tensor.clone()
    swapped[3] = 1
    moved = tensor.clone()
    moved[4] = 1
    assert fingerprints.fingerprints({"t": swapped}) != fingerprints.fingerprints({"t": moved})
    assert fingerprints.changed(before, {}) == ["t"]


def test_a_negative_zero_is_another_bit() -> None:
    plus, minus = (fingerprints.fingerprints({"t": torch.tensor([value])}) for value in (0.0, -0.0))
    assert plus != minus


def test_a_weight_that_became_float32_to_train_is_what_it_was() -> None:
    model = torch.nn.Linear(3, 4).bfloat16()
    before = fingerprints.Tensors(model, without=())
    prints = before.prints()
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    assert before.prints() == prints
    model.bias.data[0] += 1
    assert fingerprints.changed(prints, before.prints()) == ["bias"]
