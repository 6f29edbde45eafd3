"""A method in a distribution of its own: trains the biases of the lower half of the blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Preset, method, select, sites


@method(
    "halved",
    claims=Claims(identity_at_init=True, mergeable=True),
    preset=Preset(1e-3, source="none: an example"),
)
@dataclass(frozen=True)
class Halved:
    """Biases of half its layers."""

    def inject(self, model: nn.Module) -> Adaptation:
        blocks = [site.name for site in sites(model, "block")]
        lower = tuple(f"{name}." for name in blocks[: max(1, len(blocks) // 2)])
        return select(model, lambda name: name.startswith(lower) and name.endswith("bias"))
