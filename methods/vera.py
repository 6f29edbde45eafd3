"""VeRA: one frozen random pair for all layers, two trained vectors for each. Kopiczko et al. 2024, arXiv 2310.11454, eq. 2.

    h = W0 x + b * (B (d * (A x))),   A (r, in), B (out, r) random and frozen, d (r) = 0.1, b (out) = 0 at the start

A and B are as large as the largest adapted layer, or slice of a fused projection, and cut to size for the others; each slice
gets vectors of its own. out + r trained a matrix; stored are also A and B, once. Merges. As in the PEFT library both are drawn
Kaiming-uniform; it can leave them out of the file and draw them again from the seed, which ties the file to a generator.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from peftbench import (
    Adaptation,
    Claims,
    Facts,
    NotSupported,
    PeftExport,
    Preset,
    Site,
    layer_stream,
    method,
    plain,
    sites,
    swap,
    weight_of,
)
from peftbench.data.peft_files import PREFIX

from ._low_rank import Copies, computed_in
from .lora import adapted_rows


@method(
    "vera",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.02, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "W0 x + b * (B (d * (A x))), A and B random, shared and frozen",
        count="r + out a matrix",
        paper="arXiv 2310.11454",
        stored="what trains, and A, B once",
    ),
)
@dataclass(frozen=True)
class VeRA:
    """Two trained vectors a layer around a shared random pair (Kopiczko et al. 2024)."""

    rank: int = dataclasses.field(default=256, metadata={"size": True})
    targets: str = "query+value"
    d_init: float = 0.1

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be 1 or more, not {self.rank}")

    def inject(self, model: nn.Module) -> Adaptation:
        shapes = [(weight_of(site.module).shape, site.rows) for site in sites(model, self.targets)]
        in_features = max(shape[1] for shape, _ in shapes)
        out_features = max(rows[1] - rows[0] if rows else shape[0] for shape, rows in shapes)
        device = next(model.parameters()).device
        pair = RandomPair(in_features, out_features, self.rank, device)
        return swap(model, self.targets, lambda base, its: VeRALinear(base, its, self, pair))

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """The library's VeRA, which has one d and one b over all outputs of a module."""
        tensors: dict[str, Tensor] = {}
        for name, (_, wrapper) in adaptation.swaps.items():
            layer: Any = wrapper
            if layer.rows != [slice(0, layer.out_features)]:
                raise NotSupported(f"slices of {name} have vectors of their own, which the library's has not")
            start = f"{PREFIX}{name}.vera_lambda_"
            tensors |= {f"{start}d": layer.d[0], f"{start}b": layer.b}
            tensors |= {"base_model.vera_A": layer.shared.a, "base_model.vera_B": layer.shared.b}
        config = {
            "peft_type": "VERA",
            "r": self.rank,
            "target_modules": sorted(adaptation.swaps),
            "d_initial": self.d_init,
            "vera_dropout": 0.0,
            "save_projection": True,
            "projection_prng_key": 0,
            "fan_in_fan_out": any(isinstance(base, Conv1D) for base, _ in adaptation.swaps.values()),
            "bias": "none",
        }
        return PeftExport(config, {name: tensor.detach().clone() for name, tensor in tensors.items()})


class RandomPair(nn.Module):
    """A and B, which all layers hold: one module, so that they stay one when the model moves."""

    a: Tensor
    b: Tensor

    def __init__(self, in_features: int, out_features: int, rank: int, device: torch.device) -> None:
        super().__init__()
        self.copies = Copies()
        self.register_buffer("a", torch.empty(rank, in_features, device=device))
        self.register_buffer("b", torch.empty(out_features, rank, device=device))
        if device.type != "meta":
            with layer_stream("vera"):
                for shared in (self.a, self.b):
                    bound = math.sqrt(6.0 / shared.shape[1])
                    shared.copy_(torch.rand(shared.shape) * 2 * bound - bound)

    def pair_in(self, kind: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """A and B, for a training pass in `kind` cast once for all layers."""
        if kind is None:
            return self.a, self.b
        return self.copies.of(self.a, kind), self.copies.of(self.b, kind)


class VeRALinear(nn.Module):
    """A linear layer with an update whose directions are frozen and whose sizes train."""

    def __init__(self, base: nn.Module, sites: list[Site], settings: VeRA, pair: RandomPair) -> None:
        super().__init__()
        self.base = base
        self.out_features, self.in_features = weight_of(base).shape
        self.rows = adapted_rows(self.out_features, sites)
        adapted = sum(rows.stop - rows.start for rows in self.rows)
        self.shared = pair
        device = pair.a.device
        self.d = nn.Parameter(torch.full((len(self.rows), settings.rank), settings.d_init, device=device))
        self.b = nn.Parameter(torch.zeros(adapted, device=device))

    def _parts(self) -> list[tuple[slice, Tensor, Tensor]]:
        """For each adapted slice of the outputs: its rows, its d (rank) and its b (rows)."""
        ends = [0, *accumulate(rows.stop - rows.start for rows in self.rows)]
        return [
            (rows, self.d[part], self.b[ends[part] : ends[part + 1]]) for part, rows in enumerate(self.rows)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out: Tensor = self.base(x)
        kind = computed_in(x)
        shared_a, shared_b = self.shared.pair_in(kind)
        low = functional.linear(x, shared_a[:, : self.in_features].to(kind or x.dtype))
        updates = [
            functional.linear(low * d.to(low.dtype), shared_b[: len(b)].to(low.dtype)) * b.to(low.dtype)
            for _, d, b in self._parts()
        ]
        if len(updates) == 1 and len(self.b) == self.out_features:
            return out + updates[0]
        whole = torch.zeros_like(out)
        for (rows, _, _), update in zip(self._parts(), updates, strict=True):
            whole[..., rows] = update.to(out.dtype)
        return out + whole

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """W0 + diag(b) B diag(d) A, summed in float32 and cast once."""
        weight = weight_of(self.base).float().clone()
        for rows, d, b in self._parts():
            down = d.float()[:, None] * self.shared.a[:, : self.in_features].float()
            weight[rows] += b.float()[:, None] * (self.shared.b[: len(b)].float() @ down)
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]
