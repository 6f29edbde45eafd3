"""AdaLoRA: low-rank updates as triplets, the least important of which are dropped. Zhang et al. 2023, arXiv 2303.10512.

    h = W0 x + (alpha / r0) P diag(l) Q x,   P (out, r0) and Q (r0, in) Gaussian, l (r0) zero              (eq. 3)
    loss + gamma (|P'P - I| + |QQ' - I|), a mean over matrices; the paper squares the norms                (eq. 4)
    importance of a triplet: s(l_i) + mean s(P_i) + mean s(Q_i), with s = mean |w g| x mean of its spread  (eq. 7 to 11)
    triplets kept after step t: all until t_i, then falling with a cube to the target until T - t_f        (eq. 12)

r0 (in + out + 1) numbers a matrix train and are counted; what is stored is what is left at the end, on average
`target_rank` triplets a matrix, so the trained and the stored counts differ. A dropped triplet's l is zero from then on
unless its importance grows again before T - t_f. Merges. The PEFT library divides by the rank plus 1e-5, scales by the
present rank once shrunk, and needs a call of its own after each step; here the trainer makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, PeftExport, Preset, Site, method, plain, swap, weight_of

from ._peft_lora import lora_to_peft
from .lora import adapted_rows, add_product, spread


@method(
    "adalora",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.0063, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "W0 x + (alpha / r0) P diag(l) Q x, the least important l dropped",
        count="r0 (in + out + 1) a matrix",
        paper="arXiv 2303.10512",
        stored="the triplets left at the end, of these all",
    ),
)
@dataclass(frozen=True)
class AdaLoRA:
    """Low-rank updates whose ranks are shared out among layers while training (Zhang et al. 2023)."""

    target_rank: int = 8
    initial_rank: int = 12
    alpha: float = 24.0
    targets: str = "query+value"
    orthogonality: float = 0.5  # gamma, the weight of the penalty
    warm_share: float = 0.1  # of the steps, before the first triplet goes: t_i
    final_share: float = 0.3  # of the steps, with the ranks as they are then: t_f
    smoothing: float = 0.85  # of importance and of its spread, from step to step
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.target_rank <= self.initial_rank:
            raise ValueError(
                f"target_rank must be from 1 to initial_rank ({self.initial_rank}), not {self.target_rank}"
            )
        if min(self.warm_share, self.final_share) < 0 or self.warm_share + self.final_share >= 1:
            raise ValueError("warm_share and final_share must be 0 or more and leave some steps between them")

    def inject(self, model: nn.Module) -> Adaptation:
        adaptation = swap(model, self.targets, lambda base, sites: TripletLinear(base, sites, self))
        layers = {name: wrapper for name, (_, wrapper) in adaptation.swaps.items()}
        ranks = Ranks(self, [layer for layer in layers.values() if isinstance(layer, TripletLinear)])
        adaptation.after_step, adaptation.between_steps = ranks.after_step, ranks
        adaptation.penalty = ranks.penalty
        adaptation.settle = ranks.settle
        adaptation.stored = lambda: {
            f"{name}.{tensor_name}": tensor
            for name, layer in layers.items()
            if isinstance(layer, TripletLinear)
            for tensor_name, tensor in layer.kept().items()
        }
        adaptation.receive = lambda state: _resize(layers, state)
        return adaptation

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """As a LoRA whose rank differs from layer to layer, with diag(l) Q for its A."""
        return lora_to_peft(adaptation, lambda layer: (layer.q * layer.l[:, None], layer.up(), layer.scale))


class TripletLinear(nn.Module):
    """A linear layer with an update P diag(l) Q; one set of triplets for each adapted slice of the outputs."""

    def __init__(self, base: nn.Module, sites: list[Site], settings: AdaLoRA) -> None:
        super().__init__()
        weight = weight_of(base)
        self.base = base
        self.out_features, in_features = weight.shape
        self.scale = settings.alpha / settings.initial_rank
        self.rows = adapted_rows(self.out_features, sites)
        self.whole = len(self.rows) == 1 and self.rows[0] == slice(0, self.out_features)
        adapted, rank, pairs = sum(r.stop - r.start for r in self.rows), settings.initial_rank, len(self.rows)
        self.q = nn.Parameter(torch.empty(pairs * rank, in_features, device=weight.device))
        self.p = nn.Parameter(torch.empty(adapted, rank, device=weight.device))
        self.l = nn.Parameter(torch.zeros(pairs * rank, device=weight.device))
        if not weight.is_meta:
            for drawn in (self.q, self.p):
                drawn.data.copy_(torch.randn(drawn.shape) * settings.init_std)

    def up(self) -> Tensor:
        """P for all outputs, (out_features, pairs * rank)."""
        return self.p if self.whole else spread(self.p, self.rows, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor = self.base(flat)
        low = functional.linear(flat, (self.q * self.l[:, None]).to(flat.dtype))
        added = add_product(self.base, out, low, self.up().t().to(low.dtype), self.scale)
        return added.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """W0 + (alpha / r0) P diag(l) Q, summed in float32 and cast once."""
        weight = weight_of(self.base).float() + self.scale * (self.up() * self.l) @ self.q
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]

    def sets(self) -> list[tuple[slice, slice]]:
        """For each adapted slice: its rows of `p`, and its triplets in `q` and `l`."""
        found, row = [], 0
        for pair, rows in enumerate(self.rows):
            width, rank = rows.stop - rows.start, self.p.shape[1]
            found.append((slice(row, row + width), slice(pair * rank, (pair + 1) * rank)))
            row += width
        return found

    def kept(self) -> dict[str, Tensor]:
        """What is stored: the tensors as they are; after settling, without the triplets that went."""
        return {"p": self.p.detach(), "l": self.l.detach(), "q": self.q.detach()}

    @torch.no_grad()
    def keep(self, triplets: Tensor) -> None:
        """Drop the triplets that are not in the mask (pairs * rank,); slices of one layer keep the same number."""
        rank = self.p.shape[1]
        masks = triplets.view(len(self.rows), rank)
        count = int(masks.sum(1).max())
        order = [
            torch.cat([mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]])[:count] for mask in masks
        ]  # a slice with fewer is filled up with some whose l is zero
        p = torch.cat([self.p[rows][:, chosen] for (rows, _), chosen in zip(self.sets(), order, strict=True)])
        places = torch.cat([chosen + pair * rank for pair, chosen in enumerate(order)])
        self.q.data, self.l.data, self.p.data = self.q[places], self.l[places], p


class Ranks:
    """Shares a budget of triplets out among the layers."""

    def __init__(self, settings: AdaLoRA, layers: list[TripletLinear]) -> None:
        self.settings, self.layers = settings, layers
        self.importance: dict[nn.Parameter, Tensor] = {}
        self.spread: dict[nn.Parameter, Tensor] = {}
        self.chosen: list[Tensor] = []

    def penalty(self) -> Tensor:
        """gamma times the mean of |P'P - I| and |QQ' - I| over all P and Q, as the authors' released code has it."""
        parts = []
        for layer in self.layers:
            for rows, triplets in layer.sets():
                p, q = layer.p[rows], layer.q[triplets]
                identity = torch.eye(len(q), device=q.device)
                parts += [(p.t() @ p - identity).norm(), (q @ q.t() - identity).norm()]
        return self.settings.orthogonality * torch.stack(parts).mean()

    def budget(self, step: int, steps: int) -> int:
        """Triplets kept in all after a step, from 0, of so many (eq. 12)."""
        settings = self.settings
        matrices = sum(len(layer.rows) for layer in self.layers)
        first, last = settings.initial_rank * matrices, settings.target_rank * matrices
        warm, final = int(settings.warm_share * steps), int(settings.final_share * steps)
        progress = (step - warm) / max(1, steps - warm - final)
        left = 1 - min(max(progress, 0.0), 1.0)
        return int(last + (first - last) * left**3)

    def state(self) -> dict[str, Tensor]:
        """Importance and its spread, and which triplets are chosen, by layer."""
        found = {f"chosen {i}": mask for i, mask in enumerate(self.chosen)}
        for i, p in enumerate(self._tensors()):
            if p in self.importance:
                found |= {f"importance {i}": self.importance[p], f"spread {i}": self.spread[p]}
        return found

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """The same, of an earlier process."""
        for i, p in enumerate(self._tensors()):
            if f"importance {i}" in state:
                self.importance[p] = state[f"importance {i}"].to(p.device)
                self.spread[p] = state[f"spread {i}"].to(p.device)
        layers = range(len(self.layers)) if "chosen 0" in state else ()
        self.chosen = [state[f"chosen {i}"].to(self.layers[i].l.device) for i in layers]

    def _tensors(self) -> list[nn.Parameter]:
        return [p for layer in self.layers for p in (layer.p, layer.q, layer.l)]

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Take the step's gradients into account, and silence the least important triplets."""
        beta = self.settings.smoothing
        frozen = step >= steps - int(self.settings.final_share * steps)
        if not frozen:
            for p in self._tensors():
                if p.grad is None:
                    continue
                seen = (p * p.grad).abs()
                if p not in self.importance:
                    self.importance[p], self.spread[p] = torch.zeros_like(seen), torch.zeros_like(seen)
                old = self.importance[p]
                old.mul_(beta).add_(seen, alpha=1 - beta)
                apart = (seen - old).abs()
                self.spread[p].mul_(beta).add_(apart, alpha=1 - beta)
            self.chosen = self._most_important(self.budget(step, steps))
        for layer, mask in zip(self.layers, self.chosen, strict=True):
            layer.l.masked_fill_(~mask, 0.0)

    def _most_important(self, count: int) -> list[Tensor]:
        """For each layer a mask (pairs * rank,) of the triplets among the `count` best of all."""
        scores = []
        for layer in self.layers:
            s = {
                p: self.importance[p] * self.spread[p]
                for p in (layer.p, layer.q, layer.l)
                if p in self.spread
            }
            of_layer = torch.zeros_like(layer.l)
            if s:
                of_layer += s[layer.l] + s[layer.q].mean(1)
                of_layer += torch.cat([s[layer.p][rows].mean(0) for rows, _ in layer.sets()])
            scores.append(of_layer)
        everything = torch.cat(scores)
        best = torch.zeros_like(everything, dtype=torch.bool)
        best[everything.argsort(descending=True, stable=True)[:count]] = True
        return list(best.split([len(one) for one in scores]))

    def settle(self) -> None:
        """Drop what is silent for good. Nothing went where nothing was trained."""
        if not self.importance:
            return
        self.importance.clear()
        self.spread.clear()
        for layer, mask in zip(self.layers, self.chosen, strict=True):
            layer.keep(mask)


def _resize(layers: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
    """Give each layer as many triplets as the saved one has."""
    for name, layer in layers.items():
        saved = state.get(f"{name}.p")
        if saved is not None and isinstance(layer, TripletLinear) and saved.shape[1] < layer.p.shape[1]:
            mask = torch.zeros(len(layer.rows), layer.p.shape[1], dtype=torch.bool, device=layer.p.device)
            mask[:, : saved.shape[1]] = True
            layer.keep(mask.flatten())
