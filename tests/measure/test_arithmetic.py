"""Operations of a step, by torch's counter and by hand."""

from __future__ import annotations

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
