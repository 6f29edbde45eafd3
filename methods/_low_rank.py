"""A linear layer with a low-rank update as one step of autograd: six products beside the base's own.

    y = W0 x + B l,   l = s A x,   d = s B' g,   dx = W0' g + A' d,   dA = d x',   dB = g l'

Both outer products add onto the base's, and s is a factor of the two narrow ones, so that nothing of the layer's width is
computed beside products. For the backward pass stay the layer's input, which layers that get the same one share, and l. In
16 bits A and B are copied for all layers at once.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from peftbench import weight_of

from ._once import state_of


class Copies:
    """What the layers of a method compute with where that is not float32; each is asked in a training pass alone."""

    def __init__(self) -> None:
        self.states: dict[Tensor, Any] = {}  # of A and B of each layer, when they were copied
        self.copies: dict[Tensor, Tensor] = {}
        self.input: Any = None  # weakly: the last input that was cast, its version, and the cast

    def of(self, parameter: Tensor, kind: torch.dtype) -> Tensor:
        """A parameter in `kind`; if it changed, so did the others, and all are copied at once."""
        if parameter.dtype == kind:
            return parameter.detach()
        if self.states.get(parameter) != _state(parameter, kind):
            self.states.setdefault(parameter, None)
            changed = [p for p, state in self.states.items() if state != _state(p, kind)]
            fresh = [torch.empty_like(p, dtype=kind, requires_grad=False) for p in changed]
            torch._foreach_copy_(fresh, changed)
            self.copies.update(zip(changed, fresh, strict=True))
            self.states.update((p, _state(p, kind)) for p in changed)
        return self.copies[parameter]

    def forget(self, *parameters: Tensor) -> None:
        """They got gradients, so they will change: torch's fused optimizers leave no trace of that in a parameter."""
        self.states.update(dict.fromkeys(parameters))

    def of_input(self, x: Tensor, kind: torch.dtype) -> Tensor:
        """A layer's input in `kind`: one cast for all layers that get the same, for as long as one of them keeps it."""
        if x.dtype == kind:
            return x
        last, version, made = self.input or (None, None, None)
        cast: Tensor | None = made() if last is not None and last() is x and version == x._version else None
        if cast is None:
            cast = x.to(kind)
            self.input = weakref.ref(x), x._version, weakref.ref(cast)
        return cast


def _state(parameter: Tensor, kind: torch.dtype) -> tuple[Any, ...]:
    """With that of its gradient: one that was copied between a backward pass and the optimizer's step is copied again."""
    gradient = parameter.grad
    return kind, state_of(parameter), None if gradient is None else (id(gradient), gradient._version)


def computed_in(x: Tensor) -> torch.dtype | None:
    """The type in which `LowRank` computes for an input; None where the plain formula serves: it is what a compiler makes its
    own of, what inference needs, and in float32 on a CPU, where a launch costs little, what results are made with.
    """
    device = x.device.type
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or device not in ("cpu", "cuda"):
        return None
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return None if device == "cpu" and kind.itemsize > 2 else kind


def is_frozen(base: nn.Module) -> bool:
    """Whether a layer's gradients are its input's alone, and that is one product with its weight."""
    return type(base) in (nn.Linear, Conv1D) and not any(p.requires_grad for p in base.parameters())


class LowRank(torch.autograd.Function):
    """The outputs of a `LoRALinear`, and its gradients; those of A and B have the types of A and B.

    It gets the layer's input (..., in_features), A (pairs * rank, in_features), B (adapted rows, rank), the base's outputs
    (items, out_features), or None where the base is frozen and its own products are made here, the layer itself, and the data
    type to compute in. It returns (items, out_features).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, base_out: Tensor | None, layer: Any, kind: torch.dtype
    ) -> Tensor:
        narrow_a, narrow_b = layer.copies.of(a, kind), layer.copies.of(b, kind)
        flat = layer.copies.of_input(x, kind)
        flat = flat.reshape(-1, flat.shape[-1])
        # The base's layer may keep what it returned: then not written over.
        out: Tensor = layer.base(flat) if base_out is None else base_out.to(kind, copy=True)
        seen, mask = flat, None
        if layer.training and layer.dropout:
            seen, mask = torch.native_dropout(flat, layer.dropout, True)
        low = _product(seen, narrow_a.t(), flat.new_empty(len(flat), len(a)), layer.scale)
        for rows, pair, part in layer.parts():
            wide = out[:, rows]
            torch.addmm(wide, low[:, pair], narrow_b[part].t(), out=wide)
        needs_x, needs_a, *_ = ctx.needs_input_grad
        weight = weight_of(layer.base) if needs_x and base_out is None else None
        ctx.save_for_backward(flat if needs_a else None, mask, low, narrow_a, narrow_b, weight)
        ctx.layer, ctx.x_shape = layer, x.shape
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        flat, mask, low, narrow_a, narrow_b, weight = ctx.saved_tensors
        layer = ctx.layer
        needs_x, needs_a, needs_b, needs_base, *_ = ctx.needs_input_grad
        dx = da = db = None
        if needs_b:
            parts = [_gradient(g[:, rows].t(), low[:, pair], layer.b.dtype) for rows, pair, _ in layer.parts()]
            db = parts[0] if len(parts) == 1 else torch.cat(parts)
        d = torch.empty_like(low)
        for rows, pair, part in layer.parts():
            _product(g[:, rows], narrow_b[part], d[:, pair], layer.scale)
        if needs_a:
            da = _gradient(d.t(), _dropped(flat, mask, layer.dropout), layer.a.dtype)
        if needs_x and weight is None:
            dx = _dropped(d @ narrow_a, mask, layer.dropout)
        elif needs_x:
            dx = g @ weight.to(g.dtype)
            if mask is None:
                torch.addmm(dx, d, narrow_a, out=dx)
            else:
                dx.addcmul_(d @ narrow_a, mask, value=1 / (1 - layer.dropout))
        layer.copies.forget(*(p for p, needs in ((layer.a, needs_a), (layer.b, needs_b)) if needs))
        return None if dx is None else dx.view(ctx.x_shape), da, db, g if needs_base else None, None, None


def _dropped(values: Tensor, mask: Tensor | None, share: float) -> Tensor:
    """Values, or their gradients, behind a dropout that left those in the mask."""
    if mask is None:
        return values
    return torch.ops.aten.native_dropout_backward(values, mask, 1 / (1 - share))  # type: ignore[no-any-return]


def _product(left: Tensor, right: Tensor, into: Tensor, scale: float) -> Tensor:
    """scale * left @ right, written into `into`: the factor is the product's own, not a pass over its result."""
    return torch.addmm(into, left, right, beta=0, alpha=scale, out=into)


def _gradient(left: Tensor, right: Tensor, kind: torch.dtype) -> Tensor:
    """left @ right in a parameter's type: a GPU writes the float32 sums as they are, a CPU rounds them first."""
    if left.is_cuda and left.dtype != kind:
        return torch.mm(left, right, out_dtype=kind)
    return (left @ right).to(kind)
