"""Operations of a step, by torch's counter and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from peftbench.measure.arithmetic import count_flops


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


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_queries_that_share_keys_and_values_count_as_if_each_had_its_own(device: str) -> None:
    """The same products are made; the kernel of a GPU has names of its own."""
    query, shared = (
        torch.randn(2, heads, 16, 8, device=device, dtype=torch.bfloat16, requires_grad=True)
        for heads in (4, 2)
    )

    def step() -> None:
        attend = nn.functional.scaled_dot_product_attention
        attend(query, shared, shared, enable_gqa=True).sum().backward()

    forward = 2 * (2 * 2 * 4 * 16 * 16 * 8)
    recomputed = 5 / 2 * forward  # of its five products one is the scores again, as fused kernels do
    assert count_flops(step) == forward + recomputed


def test_products_that_add_onto_what_is_there_count() -> None:
    out, left, right = torch.zeros(4, 5), torch.ones(4, 3), torch.ones(3, 5)
    for add in (torch.addmm, torch.Tensor.addmm_):
        assert count_flops(lambda add=add: add(out, left, right)) == 2 * 4 * 3 * 5  # type: ignore[misc]
    stack = torch.zeros(2, 4, 5)
    assert (
        count_flops(lambda: stack.baddbmm_(left.expand(2, 4, 3), right.expand(2, 3, 5))) == 2 * 2 * 4 * 3 * 5
    )
