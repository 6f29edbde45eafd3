"""BitFit: the biases train, all else is frozen. Ben Zaken et al. 2022, arXiv 2106.10199, section 3.

    h = W0 x + b,   y = gain LN(h) + b',   only the b train

Every bias of the backbone, those of LayerNorms included; the head beside it is the core's business.
d + 11 d L on BERT and RoBERTa: the embeddings' LayerNorm, and a block's q, k, v, o, feed-forward (4 d + d) and two
LayerNorms. The values of biases change and nothing is added, so there is no extra latency. A model without
biases (Llama, T5) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, NotSupported, Preset, method, select


@method(
    "bitfit",
    claims=Claims(identity_at_init=True, mergeable=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "W0 x + b, gain LN(h) + b, the b train",
        count="d + 11 d L on BERT",
        paper="arXiv 2106.10199",
    ),
)
@dataclass(frozen=True)
class BitFit:
    """The model's own biases (Ben Zaken et al. 2022)."""

    def inject(self, model: nn.Module) -> Adaptation:
        backbone = getattr(model, "base_model", model)
        wanted = {id(p) for name, p in backbone.named_parameters() if name.rpartition(".")[2] == "bias"}
        if not wanted:
            kind = model.config.model_type  # type: ignore[union-attr]
            raise NotSupported(f"bitfit trains biases, and this {kind} model has none")
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm) and id(module.bias) in wanted:
                # What trains is float32, and a LayerNorm's gain must be of its bias's type. Widening is exact.
                module.weight.data = module.weight.data.float()
        names = {name for name, p in model.named_parameters() if id(p) in wanted}
        return select(model, names.__contains__)
