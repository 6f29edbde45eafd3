"""Frozen linear layers whose weight is kept in 4 or 8 bits. Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix E.

4 bits: NormalFloat codes, blocks of 64 weights with one scale. 8 bits: whole numbers with one scale for each output. A pass forms the
weight in the compute type and lets it go; backward forms it again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import NotSupported, weight_of

BLOCK = 64  # weights that share a scale, of 4 bits
CHUNK = 2**16  # blocks that are formed at once, so that what is needed beside the weight stays below 30 MB
NORMAL_FLOAT = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def has_bitsandbytes() -> bool:
    """Whether that library is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def bitsandbytes() -> Any:
    """That library, which takes seconds to import."""
    import bitsandbytes as library

    return library


def quantise(base: nn.Module, bits: int, backend: str) -> nn.Module:
    """A frozen layer with the outputs of a linear one, but for rounding.

    Args:
        backend: "bitsandbytes" for its kernels; else torch alone.

    Raises:
        NotSupported: the layer is not linear, or the library asked for is not here.
    """
    weight, bias = weight_of(base).detach(), base.bias
    kept = None if bias is None else bias.detach().clone()  # type: ignore[operator]
    if backend == "bitsandbytes":
        if not has_bitsandbytes():
            raise NotSupported(
                "backend=bitsandbytes needs that library: pip install bitsandbytes, or leave the backend out"
            )
        if not weight.is_meta:
            return BitsAndBytesLinear(weight, kept)
    return (FourBitLinear if bits == 4 else EightBitLinear)(weight, kept)


class QuantisedLinear(nn.Module):
    """A frozen linear layer that forms its weight anew in each pass."""

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.shape = weight.shape
        self.register_buffer("bias", bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantisedLinear:
        """Moved with the model and never cast: kernels read scales and tables in the types that they were made in."""
        for name, held in self._buffers.items():
            if held is not None:
                made = fn(held)
                self._buffers[name] = made if made.dtype == held.dtype else held.to(made.device)
        return self

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes stand for: (out_features, in_features), rounded once from float32."""
        raise NotImplementedError

    def product(self, x: Tensor) -> Tensor:
        """x W', without the bias."""
        out: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        kind = (
            torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        )
        out = self.product(x.to(kind))
        return out if self.bias is None else out + self.bias.to(kind)


class _Product(torch.autograd.Function):
    """x W', keeping codes and not W for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.dense(gradient.dtype), None


class EightBitLinear(QuantisedLinear):
    """Whole numbers from -127 to 127, one scale for each output."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        weight = weight.float()
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        self.register_buffer("scales", scales)  # (out_features, 1)
        self.register_buffer("codes", (weight / scales).round().to(torch.int8))  # (out_features, in_features)

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return (self.codes * self.scales).to(dtype)


class FourBitLinear(QuantisedLinear):
    """Two NormalFloat codes a byte, one scale for each block of 64 weights in the order of rows."""

    codes: Tensor
    scales: Tensor
    pairs: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        flat = weight.reshape(-1)
        flat = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        values = torch.tensor(NORMAL_FLOAT, device=weight.device)
        middles = (values[1:] + values[:-1]) / 2  # a weight takes the nearest value
        scales = torch.empty(len(flat), 1, device=weight.device)
        codes = torch.empty(len(flat), BLOCK // 2, dtype=torch.uint8, device=weight.device)
        for part in () if weight.is_meta else _chunks(len(flat)):  # without weights, shapes alone
            blocks = flat[part].float()
            scales[part] = blocks.abs().amax(1, keepdim=True).clamp(min=1e-12)
            nearest = torch.bucketize(blocks / scales[part], middles, out_int32=True).to(torch.uint8)
            codes[part] = nearest[:, ::2] * 16 + nearest[:, 1::2]
        byte = torch.arange(256, device=weight.device)
        pairs = torch.stack([values[byte >> 4], values[byte & 15]], 1)
        self.register_buffer("scales", scales)  # (blocks, 1)
        self.register_buffer("codes", codes)  # (blocks, BLOCK / 2)
        # (256,): the two float32 of each byte as one whole number, so that a byte is looked up at once.
        self.register_buffer("pairs", pairs.view(torch.int64).view(-1))

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        flat = torch.empty(len(self.codes), BLOCK, dtype=dtype, device=self.codes.device)
        for part in _chunks(len(flat)):
            pairs = self.pairs.index_select(0, self.codes[part].reshape(-1).int())
            torch.mul(pairs.view(torch.float32).view(-1, BLOCK), self.scales[part], out=flat[part])
        return flat.view(-1)[: self.shape.numel()].view(self.shape)


def _chunks(blocks: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, blocks, CHUNK))


class BitsAndBytesLinear(QuantisedLinear):
    """The same codes by that library's kernels, the scales in 8 bits themselves ("double quantisation")."""

    codes: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        codes, state = bitsandbytes().functional.quantize_4bit(
            weight.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        self.register_buffer("codes", codes)  # (weights / 2, 1)
        # Its state is kept as buffers, which move with the model: scales in 8 bits, and what they stand for.
        self.register_buffer("values", state.code)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("offset", state.offset)
        self.register_buffer("scales_of_scales", state.state2.absmax)
        self.register_buffer("values_of_scales", state.state2.code)
        self.scales_block = state.state2.blocksize

    def state(self, dtype: torch.dtype) -> Any:
        """As that library takes it, for a weight in `dtype`."""
        made = bitsandbytes().functional.QuantState
        of_scales = made(
            absmax=self.scales_of_scales, code=self.values_of_scales, blocksize=self.scales_block, dtype=torch.float32
        )  # fmt: skip
        return made(
            absmax=self.scales, shape=self.shape, code=self.values, blocksize=BLOCK, quant_type="nf4", dtype=dtype,
            offset=self.offset, state2=of_scales,
        )  # fmt: skip

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        weight: Tensor = bitsandbytes().functional.dequantize_4bit(self.codes, self.state(dtype))
        return weight

    def product(self, x: Tensor) -> Tensor:
        out: Tensor = bitsandbytes().matmul_4bit(x, self.codes.t(), quant_state=self.state(x.dtype))
        return out
