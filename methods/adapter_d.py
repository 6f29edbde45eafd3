"""AdapterDrop: Pfeiffer's adapters, none in the lowest blocks. Rücklé et al. 2021, arXiv 2010.11918.

    block i < n:   as in the base
    block i >= n:  with an adapter as in `adapter-p`

Below the first adapter nothing trains, so the backward pass ends there, and tasks can share what these blocks
compute. This is the paper's specialised form, with one fixed n (5 of 12 by default, its main example); its
robust form draws n anew for each batch. (L - n) (2 r d + r + d) parameters: 0.9M of Hu et al.'s table 2 is
n = 0, 0.3M may be n = 8. In an encoder-decoder the lowest blocks are the encoder's. Starts as the base. Does
not merge.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, NotSupported, Preset, method, sites

from .adapter_p import AdapterP


@method(
    "adapter-d",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "adapter-p in all blocks but the lowest n",
        count="(L - n) (2 d r + r + d)",
        paper="arXiv 2010.11918",
    ),
)
@dataclass(frozen=True)
class AdapterD:
    """Pfeiffer's adapters with the lowest blocks left without one (Rücklé et al. 2021)."""

    bottleneck: int = dataclasses.field(default=48, metadata={"size": True})
    dropped: int | None = None  # blocks without an adapter; None: five of twelve
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")
        if self.dropped is not None and self.dropped < 0:
            raise ValueError(f"dropped must be 0 or more, not {self.dropped}")

    def inject(self, model: nn.Module) -> Adaptation:
        places = sites(model, "ffn_out")  # in the order of computation, one a block
        dropped = self.dropped
        if dropped is None:
            dropped = max(1, min(round(5 / 12 * len(places)), len(places) - 1))
        if dropped >= len(places):
            raise NotSupported(
                f"dropping the adapters of {dropped} blocks leaves none: this model has {len(places)}"
            )
        return AdapterP(self.bottleneck, self.init_std).inject_at(model, places[dropped:])
