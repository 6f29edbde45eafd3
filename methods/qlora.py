"""QLoRA: LoRA over a base whose weights are kept in 4 or 8 bits. Dettmers et al. 2023, arXiv 2305.14314, section 3.

    h = dequantise(c, s) x + (alpha / r) B A x

4 bits: NormalFloat codes (the paper's appendix E), blocks of 64 weights with one float32 scale; 8 bits: whole numbers with
one scale for each output. Every linear layer of self-attention and feed-forward is quantised, those among `targets` get a
pair, all of them as the paper recommends. A pass forms a layer's weight in the compute type and lets it go; backward forms it
again. On a GPU no dense copy is kept; the originals stay in the host's memory, where the checks of each run ask for them. The scales are not quantised a second time (the paper's "double quantisation" saves .37 bits more).

Runs with torch alone on a CPU and on a GPU, where `backend=bitsandbytes` takes that library's kernels instead (the same
codes and blocks, with double quantisation). Not identical to the base at the start: quantising is an error that the
adapter then trains against. Not merged: a dense weight would give back the memory, and a requantised one would lose
small updates. Base parameters are counted as what they stand for, one each, whatever they take in memory.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, NotSupported, Preset, Site, method, sites, swap, weight_of

from ._low_rank import Copies
from .lora import LoRA, LoRALinear

LINEAR = "query+key+value+attention_output+ffn_in+ffn_out"
BLOCK = 64  # weights that share a scale, of 4 bits
NORMAL_FLOAT = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@method(
    "qlora",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "dequantise(c, s) x + (alpha / r) B A x",
        count="r (in + out) a matrix",
        paper="arXiv 2305.14314",
    ),
)
@dataclass(frozen=True)
class QLoRA(LoRA):
    """LoRA over a base in 4 or 8 bits (Dettmers et al. 2023)."""

    targets: str = LINEAR
    bits: int = 4
    backend: Literal["torch", "bitsandbytes"] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ValueError(f"bits must be 4 or 8, not {self.bits}")
        if self.start:
            raise ValueError("start is for methods whose checkpoint is a plain LoRA")

    def inject(self, model: nn.Module) -> Adaptation:
        adapted = {(site.name, site.part) for site in sites(model, self.targets)}
        copies = Copies()

        def build(base: nn.Module, its: list[Site]) -> nn.Module:
            quantised = quantise(base, self.bits, self.backend)
            chosen = [site for site in its if (site.name, site.part) in adapted]
            return QLoRALinear(base, quantised, chosen, self, copies) if chosen else quantised

        adaptation = swap(model, sites(model, LINEAR), build)
        params = {name: p for name, p in adaptation.params.items() if name.endswith((".a", ".b"))}
        # The codes follow from the base: they are not stored.
        return dataclasses.replace(adaptation, params=params, frozen={})


class QLoRALinear(LoRALinear):
    """A quantised linear layer with a low-rank update."""

    def __init__(
        self, base: nn.Module, quantised: nn.Module, sites: list[Site], settings: LoRA, copies: Copies
    ) -> None:
        super().__init__(base, sites, settings, copies)
        self.base = quantised

    fold = None  # type: ignore[assignment]
    add_to = None  # type: ignore[assignment]
    mixed = None  # type: ignore[assignment]


def quantise(base: nn.Module, bits: int, backend: str) -> nn.Module:
    """A frozen layer with the outputs of a linear one, but for rounding.

    Raises:
        NotSupported: the layer is not linear, or the library asked for is not here.
    """
    weight, bias = weight_of(base).detach(), base.bias
    kept = None if bias is None else bias.detach().clone()  # type: ignore[operator]
    if backend == "bitsandbytes" and not weight.is_meta:
        return _with_bitsandbytes(weight, kept, bits)
    return (FourBitLinear if bits == 4 else EightBitLinear)(weight, kept)


class QuantisedLinear(nn.Module):
    """A frozen linear layer that forms its weight anew in each pass."""

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.shape = weight.shape
        self.register_buffer("bias", bias)

    def dense(self) -> Tensor:
        """The weight that the codes stand for: (out_features, in_features), float32."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        kind = (
            torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        )
        out: Tensor = _Product.apply(x.to(kind), self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(kind)


class _Product(torch.autograd.Function):
    """x W', keeping codes and not W for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.dense().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.dense().to(gradient.dtype), None


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

    def dense(self) -> Tensor:
        return self.codes * self.scales


class FourBitLinear(QuantisedLinear):
    """Two NormalFloat codes a byte, one scale for each block of 64 weights in the order of rows."""

    codes: Tensor
    scales: Tensor
    values: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        flat = weight.float().reshape(-1)
        flat = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        scales = flat.abs().amax(1, keepdim=True).clamp(min=1e-12)
        values = torch.tensor(NORMAL_FLOAT, device=weight.device)
        middles = (values[1:] + values[:-1]) / 2  # a weight takes the nearest value
        codes = torch.bucketize((flat / scales).contiguous(), middles).view(-1, 2).to(torch.uint8)
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)  # (blocks, 1)
        self.register_buffer("codes", codes[:, 0] * 16 + codes[:, 1])  # (weights / 2,)

    def dense(self) -> Tensor:
        codes = torch.stack([self.codes >> 4, self.codes & 15], 1).view(-1, BLOCK)
        flat = (self.values[codes.int()] * self.scales).reshape(-1)
        return flat[: self.shape.numel()].view(self.shape)


def _with_bitsandbytes(weight: Tensor, bias: Tensor | None, bits: int) -> nn.Module:
    """That library's layer; it quantises when it is moved to its device."""
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise NotSupported(
            "backend=bitsandbytes needs that library: pip install bitsandbytes, or leave the backend out"
        ) from error
    out_features, in_features = weight.shape
    layer: Any
    if bits == 4:
        layer = bnb.nn.Linear4bit(in_features, out_features, bias is not None, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(weight.clone().contiguous(), requires_grad=False, quant_type="nf4")
    else:
        layer = bnb.nn.Linear8bitLt(in_features, out_features, bias is not None, has_fp16_weights=False)
        layer.weight = bnb.nn.Int8Params(
            weight.clone().contiguous(), requires_grad=False, has_fp16_weights=False
        )
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer  # type: ignore[no-any-return]
