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
from transformers.pytorch_utils import Conv1D

from peftbench import weight_of

FORGOTTEN = -1  # in place of a version


class Copy:
    """A parameter in another type, for as long as the parameter stays as it is."""

    __slots__ = ("gradient", "made", "parameter", "storage", "version")

    def __init__(self, parameter: Tensor) -> None:
        self.parameter, self.made, self.version = parameter, parameter, FORGOTTEN

    def serves(self, kind: torch.dtype) -> bool:
        """Whether the parameter has not been moved, written to, or got a gradient since, which some optimizer then used."""
        parameter = self.parameter
        return (
            self.version == parameter._version
            and self.storage() is parameter.untyped_storage()
            and self.made.dtype == kind
            and self.gradient == _gradient_of(parameter)
        )

    def renew(self, kind: torch.dtype) -> None:
        """Room for the copy; what is in it comes later."""
        parameter = self.parameter
        self.version, self.storage = parameter._version, weakref.ref(parameter.untyped_storage())
        self.gradient = _gradient_of(parameter)
        self.made = torch.empty_like(parameter, dtype=kind, requires_grad=False)


def _gradient_of(parameter: Tensor) -> tuple[int, int] | None:
    """Which gradient it has: between a backward pass and the optimizer's step a copy lasts no longer than that."""
    gradient = parameter.grad
    return None if gradient is None else (id(gradient), gradient._version)


class Copies:
    """What the layers of a method compute with where that is not float32; it is asked in training passes alone."""

    def __init__(self) -> None:
        self.all: dict[int, Copy] = {}  # by the identity of a parameter, which is kept with it
        self.input: Any = None  # weakly: the last input that was cast, its version, and the cast

    def __reduce__(self) -> Any:
        """A copied model makes its own."""
        return Copies, ()

    def of(self, parameter: Tensor, kind: torch.dtype) -> Tensor:
        """A parameter in `kind`; where it changed, so did the others, and all that did are copied at once."""
        if parameter.dtype == kind:
            return parameter.detach()
        mine = self.all.get(id(parameter))
        if mine is None:
            mine = self.all[id(parameter)] = Copy(parameter)
        if not mine.serves(kind):
            changed = [one for one in self.all.values() if not one.serves(kind)]
            for one in changed:
                one.renew(kind)
            torch._foreach_copy_([one.made for one in changed], [one.parameter for one in changed])
        return mine.made

    def forget(self, parameter: Tensor) -> None:
        """It got a gradient, so it will change: torch's fused optimizers leave no trace of that in a parameter."""
        if (mine := self.all.get(id(parameter))) is not None:
            mine.version = FORGOTTEN

    def of_input(self, x: Tensor, kind: torch.dtype) -> Tensor:
        """A layer's input in `kind`: one cast for all layers that get the same, for as long as one of them keeps it."""
        if x.dtype == kind:
            return x.detach()  # a cost run's counter would ask a view for its graph
        cast: Tensor | None = None
        if self.input is not None:
            last, version, made = self.input
            cast = made() if last() is x and version == x._version else None
        if cast is None:
            cast = x.to(kind)
            self.input = weakref.ref(x), x._version, weakref.ref(cast)
        return cast


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
    if type(base) not in (nn.Linear, Conv1D):
        return False
    return not any(p is not None and p.requires_grad for p in base._parameters.values())


class LowRank(torch.autograd.Function):
    """The outputs of a `LoRALinear`, and its gradients; those of A and B have the types of A and B.

    It gets the layer's input (..., in_features), A (pairs * rank, in_features), B (adapted rows, rank), the base's outputs
    (..., out_features), or None where the base is frozen and its own products are made here, the layer itself, and the data
    type to compute in. It returns (..., out_features).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, base_out: Tensor | None, layer: Any, kind: torch.dtype
    ) -> Tensor:
        narrow_a, narrow_b = layer.copies.of(a, kind), layer.copies.of(b, kind)
        flat = layer.copies.of_input(x, kind).flatten(0, -2)
        # The base's layer may keep what it returned: then not written over.
        out: Tensor = layer.base(flat) if base_out is None else base_out.to(kind, copy=True).flatten(0, -2)
        seen, mask = flat, None
        if layer.training and layer.dropout:
            seen, mask = torch.native_dropout(flat, layer.dropout, True)
        low = _product(seen, narrow_a.t(), flat.new_empty(len(flat), len(a)), layer.scale)
        for wide, narrow, up in _pairs(layer, out, low, narrow_b):
            torch.addmm(wide, narrow, up.t(), out=wide)
        needs_x, needs_a, *_ = ctx.needs_input_grad
        weight = weight_of(layer.base) if needs_x and base_out is None else None
        ctx.save_for_backward(flat if needs_a else None, mask, low, narrow_a, narrow_b, weight)
        ctx.layer, ctx.x_shape, ctx.parameters = layer, x.shape, (a, b)
        # Not marked as a view, which nobody may change in place, as Falcon's blocks do.
        shaped: Tensor = torch.ops.aten._unsafe_view(out, [*x.shape[:-1], out.shape[-1]])
        return shaped

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a low-rank layer has no second derivative; ask for none, or compute in float32 on a CPU"
            )
        flat, mask, low, narrow_a, narrow_b, weight = ctx.saved_tensors
        layer, (a, b) = ctx.layer, ctx.parameters
        base_g, g = g, g.flatten(0, -2)
        needs_x, needs_a, needs_b, needs_base, *_ = ctx.needs_input_grad
        dx = da = db = None
        if needs_b:
            parts = [
                _gradient(wide.t(), narrow, b.dtype) for wide, narrow, _ in _pairs(layer, g, low, narrow_b)
            ]
            db = parts[0] if len(parts) == 1 else torch.cat(parts)
            layer.copies.forget(b)
        d = torch.empty_like(low)
        for wide, narrow, up in _pairs(layer, g, d, narrow_b):
            _product(wide, up, narrow, layer.scale)
        if needs_a:
            da = _gradient(d.t(), _dropped(flat, mask, layer.dropout), a.dtype)
            layer.copies.forget(a)
        if needs_x and weight is None:
            dx = _dropped(d @ narrow_a, mask, layer.dropout)
        elif needs_x:
            dx = g @ weight.to(g.dtype)
            if mask is None:
                torch.addmm(dx, d, narrow_a, out=dx)
            else:
                dx.addcmul_(d @ narrow_a, mask, value=1 / (1 - layer.dropout))
        return (
            None if dx is None else dx.view(ctx.x_shape),
            da,
            db,
            base_g if needs_base else None,
            None,
            None,
        )


def _pairs(layer: Any, wide: Tensor, narrow: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each pair its outputs, its columns of (items, pairs * rank) and its rows of B."""
    if layer.whole:
        return [(wide, narrow, b)]
    return [(wide[:, rows], narrow[:, pair], b[part]) for rows, pair, part in layer.parts()]


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
