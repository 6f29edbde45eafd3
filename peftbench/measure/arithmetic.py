"""Floating-point operations by torch's own counter: matrix products and attention, two operations a multiply-add."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def count_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(
        display=False, custom_mapping=_in_place() | _in_four_bits() | _attention()
    ) as counter:
        step()
    return int(counter.get_total_flops())


def _in_place() -> dict[Any, Any]:
    """Products that add onto what is there: the counter knows the forms that return a new tensor alone."""

    def product(_: Any, left: Any, right: Any, **__: Any) -> int:
        return int(2 * math.prod(left) * right[-1])

    return {torch.ops.aten.addmm_: product, torch.ops.aten.baddbmm_: product}


def _in_four_bits() -> dict[Any, Any]:
    """Products of the bitsandbytes library, where it is in use."""

    def product(inputs: Any, _: Any, weight: Any, *__: Any, **___: Any) -> int:
        return int(2 * math.prod(inputs) * weight[0])

    ops = torch.ops.bitsandbytes
    return {getattr(ops, name): product for name in ("gemm_4bit", "gemv_4bit") if hasattr(ops, name)}


def _attention() -> dict[Any, Any]:
    """Fused attention, on CPUs too, and with fewer heads of keys and values than of queries: torch's counter learned that after 2.11.

    Shapes are (batch, heads, length, width).
    """

    def of_all_heads(query: Any, *fewer: Any) -> list[tuple[int, ...]]:
        return [(batch, query[1], length, width) for batch, _, length, width in fewer]

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, *of_all_heads(query, key, value)))

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(gradient, query, *of_all_heads(query, key, value)))

    kernels = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    names = {
        f"_scaled_dot_product_{kernel}{end}": count
        for kernel in kernels
        for end, count in (("", forward), ("_backward", backward))
    }
    aten = torch.ops.aten
    return {getattr(aten, name): count for name, count in names.items() if hasattr(aten, name)}
