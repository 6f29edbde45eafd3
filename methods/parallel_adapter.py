"""An adapter beside the feed-forward. He et al. 2022, arXiv 2110.04366, table 1.

    y = FFN(x) + s (W_up relu(W_down x + b_down) + b_up),   x the input of the feed-forward, s = 4

W_up starts at zero, so the model starts as the base; W_down is Gaussian with the spread of the authors'
Kaiming-uniform draw, (3 d)^-1/2. The sum is taken at the feed-forward's output projection, before dropout and
the residual sum; s is a constant. L (2 r d + r + d) parameters. Does not merge.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, NotSupported, Preset, Site, method, sites, swap, weight_of

from .adapter import Bottleneck


@method(
    "parallel-adapter",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "FFN(x) + s (W_up relu(W_down x + b_down) + b_up)",
        count="L (2 d r + r + d)",
        paper="arXiv 2110.04366",
    ),
)
@dataclass(frozen=True)
class ParallelAdapter:
    """A scaled bottleneck layer beside the feed-forward (He et al. 2022)."""

    bottleneck: int = dataclasses.field(default=8, metadata={"size": True})
    scale: float = 4.0

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, not {self.scale}")

    def inject(self, model: nn.Module) -> Adaptation:
        pairs = _feed_forwards(model)
        inputs: dict[str, Input] = {}
        for start, end in pairs:
            inputs[start.name] = inputs[end.name] = Input()

        def build(base: nn.Module, its: list[Site]) -> nn.Module:
            seen = inputs[its[0].name]
            if its[0].role == "ffn_in":
                return NotedInput(base, seen)
            weight = weight_of(base)
            width = weight.shape[0]
            adapter = Bottleneck(width, self.bottleneck, functional.relu, (3 * width) ** -0.5, weight.device)
            return ParallelOutput(base, adapter, self.scale, seen)

        return swap(model, [site for pair in pairs for site in pair], build)


def _feed_forwards(model: nn.Module) -> list[tuple[Site, Site]]:
    """For each block one layer that gets the feed-forward's input, and the one that gives its output."""
    found = sites(model, "ffn_in+ffn_out")
    pairs = []
    for block in sites(model, "block"):
        inside = [site for site in found if site.name.startswith(f"{block.name}.")]
        # A gated feed-forward has two layers that get the same input: one is enough.
        starts = [site for site in inside if site.role == "ffn_in"][:1]
        ends = [site for site in inside if site.role == "ffn_out"]
        if not starts or len(ends) != 1:
            raise NotSupported(
                f"{block.name} has {len(ends)} output layers of feed-forwards; a parallel adapter needs one"
            )
        if weight_of(starts[0].module).shape[1] != weight_of(ends[0].module).shape[0]:
            raise NotSupported(
                f"the feed-forward of {block.name} has an input and an output of unlike widths"
            )
        pairs.append((starts[0], ends[0]))
    return pairs


class Input:
    """Carries a feed-forward's input, (..., width), from its first layer past the others to its last."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def take(self) -> Tensor:
        """The input, which is then let go: a pass leaves nothing, and a block that runs again notes it."""
        value, self.value = self.value, None
        assert value is not None, "the feed-forward's last layer ran without its first"
        return value


class NotedInput(nn.Module):
    """A feed-forward's first layer, unchanged, that notes what it gets."""

    def __init__(self, base: nn.Module, seen: Input) -> None:
        super().__init__()
        self.base = base
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., ffn width)."""
        self.seen.value = x
        out: Tensor = self.base(x)
        return out


class ParallelOutput(nn.Module):
    """A feed-forward's last layer plus the scaled adapter of its input."""

    def __init__(self, base: nn.Module, adapter: Bottleneck, scale: float, seen: Input) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter
        self.scale = scale
        self.seen = seen

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., ffn width) to (..., width)."""
        adapted: Tensor = self.adapter(self.seen.take())
        return torch.add(self.base(hidden), adapted, alpha=self.scale)
