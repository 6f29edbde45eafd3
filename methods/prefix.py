"""Prefix tuning: trained keys and values before the sequence's own, at every layer. Li & Liang 2021, arXiv 2101.00190.

    Attention(Q, [P_k; K], [P_v; V]),   P = MLP(P'),  MLP = Linear(d, hidden), tanh, Linear(hidden, 2 L d_kv)

The MLP is the reparameterisation of section 4.3: it trains better than P itself and is dropped afterwards, so far
fewer numbers are stored than trained. 2 L d_kv l stored (d_kv: width of the keys, which is d unless heads share keys),
where Hu et al. count L d l. Does not merge: every later call attends to l more positions. In T5 the self-attention of
encoder and decoder has prefixes, the cross-attention has none (Li & Liang give BART one there too); T5's relative
position bias is 0 for them. The tokens keep their positions; in Li & Liang's code and the PEFT library, where the prefix
is a cache that was there before, they begin at l: the same outputs where the tokens' positions are said to begin there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from peftbench import Adaptation, Claims, Facts, NotSupported, PeftExport, Preset, layer_stream, method, sites

SERVED = ("sdpa",)  # implementations of attention whose mask is (batch, 1, query, key) or none


@method(
    "prefix",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(
        2e-4,
        source="newsgroups validation, 120 steps of 16, 4 seeds, and a decade lower for a cliff above: docs/results/presets.md",
    ),
    facts=Facts(
        "Attention(Q, [P_k; K], [P_v; V]), P = MLP(P')",
        count="l d + h (d + 1) + 2 L d_kv (h + 1), h the width of the MLP",
        paper="arXiv 2101.00190",
        stored="P alone, 2 L d_kv l",
    ),
)
@dataclass(frozen=True)
class Prefix:
    """Trained keys and values before the sequence at every layer (Li & Liang 2021)."""

    length: int = dataclasses.field(default=16, metadata={"size": True})
    hidden: int = 512
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be 1 or more, not {self.length}")
        if self.hidden < 1:
            raise ValueError(f"hidden must be 1 or more, not {self.hidden}")

    def inject(self, model: nn.Module) -> Adaptation:
        attentions = [site.module for site in sites(model, "attention")]
        config: Any = model.config
        if config._attn_implementation not in SERVED:
            exchangeable = getattr(getattr(model, "base_model", model), "_supports_sdpa", False)
            raise NotSupported(
                f"{config.model_type} models do not take a prefix: their attention can't be exchanged"
                if not exchangeable
                else f"a prefix needs attention of the kind {' or '.join(SERVED)}, not {config._attn_implementation}"
            )
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        # T5's heads are `d_kv` wide, whatever the width of the model.
        width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
        width = width or config.hidden_size // config.num_attention_heads
        device = next(model.parameters()).device
        with layer_stream("prefix"):
            prefix = PrefixKeysValues(self, len(attentions), heads, width, config.hidden_size, device)
        prefix.train(model.training)
        model.add_module("prefix", prefix)
        for layer, attention in enumerate(attentions):
            attention.prefix_layer = layer  # type: ignore[assignment]
            # Not as an attribute, which would register the module once a layer and save it as often.
            attention.prefix_source = lambda: prefix  # type: ignore[assignment]
        switch = _attention_with_prefix(model, prefix)
        params = {f"prefix.{name}": p for name, p in prefix.named_parameters()}
        return Adaptation(model, params, settle=prefix.settle, stored=prefix.kept, toggle=switch)

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """Nothing: the library hands a prefix over as a cache, behind which a model counts its tokens' places."""
        raise NotSupported(
            "the library hands a prefix over as a cache, so that tokens' places begin behind it, and here they begin at 0"
        )


class PrefixKeysValues(nn.Module):
    """The keys and values of all layers: computed by the MLP while training, a fixed tensor once settled."""

    def __init__(
        self, settings: Prefix, layers: int, heads: int, width: int, d_model: int, device: torch.device
    ) -> None:
        super().__init__()
        self.shape = (settings.length, layers, 2, heads, width)
        outputs = layers * 2 * heads * width
        self.embedding = nn.Parameter(torch.empty(settings.length, d_model, device=device))
        with torch.device(device):
            self.mlp: nn.Module | None = nn.Sequential(
                nn.Linear(d_model, settings.hidden), nn.Tanh(), nn.Linear(settings.hidden, outputs)
            )
        if device.type != "meta":
            self.embedding.data.copy_(torch.randn(self.embedding.shape))
            for weight in self.mlp.parameters():
                weight.data.copy_(
                    torch.randn(weight.shape) * settings.init_std
                    if weight.ndim > 1
                    else torch.zeros(weight.shape)
                )
        self.settled: Tensor | None = None
        self.current: Tensor | None = None

    def compute(self) -> Tensor:
        """Keys and values of every layer: (layers, 2, 1, heads, length, head width)."""
        if self.settled is not None:
            return self.settled
        assert self.mlp is not None
        flat: Tensor = self.mlp(self.embedding)
        return flat.view(self.shape).permute(1, 2, 3, 0, 4)[:, :, None]

    def refresh(self, *_: Any) -> None:
        """Before each forward pass of the model: the MLP runs once for all layers."""
        self.current = self.compute()

    @torch.no_grad()
    def settle(self) -> None:
        """Keep what the MLP gives, and drop the MLP."""
        if self.settled is None:
            self.settled = self.compute().contiguous()
            self.current = None
            self.mlp = None

    def kept(self) -> dict[str, Tensor]:
        """What is stored: the keys and values themselves."""
        with torch.no_grad():
            return {"prefix.keys_values": self.compute()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PrefixKeysValues:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.settled is not None:
            self.settled = fn(self.settled)
        return self


def _attention_with_prefix(model: nn.Module, prefix: PrefixKeysValues) -> Callable[[bool], None]:
    """Put the prefix into every attention call of `model`, and return the switch that turns it off and on."""
    base = model.config._attn_implementation  # type: ignore[union-attr]
    name = f"prefix_over_{base}"
    attend = ALL_ATTENTION_FUNCTIONS[base]

    def with_prefix(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> Any:
        if not hasattr(module, "prefix_source"):  # cross-attention, or a module beside the blocks
            return attend(module, query, key, value, attention_mask, **options)
        current = module.prefix_source().current[module.prefix_layer]  # type: ignore[operator]
        keys, values = current.to(key.dtype).expand(-1, key.shape[0], -1, -1, -1)
        length, causal = keys.shape[2], options.pop("is_causal", None)
        causal = getattr(module, "is_causal", True) if causal is None else causal
        if attention_mask is None and causal and query.shape[2] > 1:
            rows, columns = query.shape[2], key.shape[2]
            attention_mask = torch.ones(rows, columns, dtype=torch.bool, device=key.device)
            attention_mask = attention_mask.tril(columns - rows)[None, None]
        if attention_mask is not None:
            seen = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = nn.functional.pad(attention_mask, (length, 0), value=seen)
        if options.get("position_bias") is not None:
            options["position_bias"] = nn.functional.pad(options["position_bias"], (length, 0))
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        return attend(module, query, key, value, attention_mask, is_causal=False, **options)

    AttentionInterface.register(name, with_prefix)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    hooks: list[Any] = []
    whole: Any = model
    # While an encoder-decoder generates, its encoder runs once and not through the model's own forward.
    first = whole.get_encoder() if getattr(whole.config, "is_encoder_decoder", False) else model

    def switch(on: bool) -> None:
        for config in configs.values():
            config._attn_implementation = name if on else base  # type: ignore[union-attr]
        while hooks:
            hooks.pop().remove()
        if on:
            hooks.append(first.register_forward_pre_hook(prefix.refresh))

    switch(True)
    return switch
