"""What follows from a frozen weight is computed once, and anew when the weight is another one: DoRA's norms, PiSSA's start."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from peftbench.execution.prepare import Prepared
from peftbench.models.precision import frozen_in
from peftbench.records.runs import Run

from ..support.adapted import adapted
from ..support.injected import fill, inject


@pytest.fixture(params=["bert", "gpt2"])
def dora(
    request: pytest.FixtureRequest, make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> Prepared:
    prepared = adapted(make_run("dora", checkpoint(request.param)))
    fill(prepared.adaptation)
    return prepared


def first(prepared: Prepared) -> Any:
    return next(iter(prepared.adaptation.swaps.values()))[1]


def cast(layer: Any) -> None:
    layer.to(torch.bfloat16)


def loaded(layer: Any) -> None:
    layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})


def moved(layer: Any) -> None:
    """As another device would: the numbers, too, may be others."""
    layer.base.weight.data = layer.base.weight.data * 2


def trained(layer: Any) -> None:
    layer.base.weight.requires_grad_()
    layer(torch.randn(3, 32)).sum().backward()
    torch.optim.AdamW([layer.base.weight], lr=0.1, fused=True).step()  # leaves the weight's version as it is


@pytest.mark.parametrize("change", [cast, loaded, moved, trained])
def test_doras_norms_are_of_the_weight_that_is_there(dora: Prepared, change: Callable[[Any], None]) -> None:
    layer = first(dora)
    before = layer._squared_norms()
    change(layer)
    got = layer._squared_norms()
    assert not torch.equal(got, before)
    assert torch.equal(got, copy.deepcopy(layer)._squared_norms())  # of a weight that was never seen


def test_doras_norms_read_the_weight_once(dora: Prepared) -> None:
    layer = first(dora)
    want = layer._own_squares(layer.rows[0])
    with frozen_in(dora.adaptation.model, torch.bfloat16):
        rounded = layer._own_squares(layer.rows[0])
        assert not torch.equal(rounded, want)
        layer.base.weight.data.zero_()  # which nothing can see
        assert torch.equal(layer._own_squares(layer.rows[0]), rounded)
    assert torch.equal(layer._own_squares(layer.rows[0]), want)


def test_a_weight_in_half_precision_is_copied_in_blocks(
    dora: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = first(dora)
    layer.base.to(torch.bfloat16)
    largest: list[int] = []
    real = Tensor.float

    def spy(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.bfloat16:
            largest.append(tensor.numel())
        return real(tensor)

    want = copy.deepcopy(layer)._squared_norms()
    monkeypatch.setattr(sys.modules[type(layer).__module__], "BLOCK", 5 * 32)
    monkeypatch.setattr(Tensor, "float", spy)
    got = copy.deepcopy(layer)._squared_norms()
    assert max(largest) == 5 * 32
    torch.testing.assert_close(got, want)


def test_pissa_takes_a_weight_apart_once(
    checkpoint: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers.BertForSequenceClassification.from_pretrained(checkpoint("bert"), num_labels=2)
    real, done = torch.linalg.svd, list[Tensor]()

    def counted(weight: Tensor, **options: Any) -> Any:
        done.append(weight)
        return real(weight, **options)

    monkeypatch.setattr(torch.linalg, "svd", counted)
    starts = []
    for _ in range(3):  # a run does so too
        adaptation = inject("pissa", model)
        starts.append([p.detach().clone() for p in adaptation.params.values()])
        fill(adaptation)  # what trains there is not what is remembered
        adaptation.remove()
    assert len(done) == 4  # query and value of two blocks
    assert all(torch.equal(one, two) for again in starts for one, two in zip(again, starts[0], strict=True))
    inject("pissa:rank=3", model).remove()
    assert len(done) == 8
    model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})
    inject("pissa", model)
    assert len(done) == 12
