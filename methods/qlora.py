"""QLoRA: LoRA over a base whose weights are kept in 4 or 8 bits. Dettmers et al. 2023, arXiv 2305.14314, section 3.

    h = dequantise(c, s) x + (alpha / r) B A x

Every linear layer of self-attention and feed-forward is quantised (see `_quantised`), those among `targets` get a pair, all
of them as the paper recommends. With `targets=all-linear` every linear layer of the blocks is quantised and gets one.
A layer is quantised on its device, from the type that the base is in. No dense copy stays on a GPU:
the core sets the originals aside in the host's memory, from where the checks of each run fetch them one by one. A base that would take
more than half of a GPU's free memory is read into the host's, and its layers come one by one to be quantised.

`backend=auto` is bitsandbytes on a GPU where that is installed, with the paper's double quantisation; else torch alone, whose
scales stay in float32 (.37 bits a weight more). A run on a GPU has the backend in its name. In 8 bits there is torch's alone:
that library's rounds the inputs, too.

Not identical to the base at the start: quantising is an error that the adapter then trains against. Not merged: a dense weight
would give back the memory, and a requantised one would lose small updates. Base parameters are counted as what they stand for,
one each, whatever they take in memory.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from peftbench import (
    Adaptation,
    Claims,
    Facts,
    NotSupported,
    PeftExport,
    Preset,
    Site,
    method,
    sites,
    swap,
)

from ._low_rank import Copies
from ._peft_lora import lora_to_peft
from ._quantised import has_bitsandbytes, quantise
from .lora import LoRA, LoRALinear

ALL_LINEAR = "all-linear"
LINEAR = "query+key+value+attention_output+ffn_in+ffn_out"


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
    backend: Literal["auto", "torch", "bitsandbytes"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ValueError(f"bits must be 4 or 8, not {self.bits}")
        if self.bits == 8 and self.backend == "bitsandbytes":
            raise ValueError("backend=bitsandbytes is for 4 bits; leave the backend out")
        if self.start:
            raise ValueError("start is for methods whose checkpoint is a plain LoRA")

    def on_device(self, device: str) -> QLoRA:
        """With the backend that "auto" stands for on a GPU; on a CPU it is torch's."""
        if self.backend != "auto" or device != "cuda":
            return self
        kernels = self.bits == 4 and has_bitsandbytes()
        return dataclasses.replace(self, backend="bitsandbytes" if kernels else "torch")

    def inject(self, model: nn.Module) -> Adaptation:
        targets = sites(model, self.targets)
        adapted = {(site.name, site.rows) for site in targets}
        # These stand for layers that are whole, and some of them play no role.
        quantised_too = targets if self.targets.strip() == ALL_LINEAR else sites(model, LINEAR)
        copies = Copies()

        def build(base: nn.Module, its: list[Site]) -> nn.Module:
            quantised = quantise(base, self.bits, self.backend)
            chosen = [site for site in its if (site.name, site.rows) in adapted]
            return QLoRALinear(base, quantised, chosen, self, copies) if chosen else quantised

        adaptation = swap(model, quantised_too, build)
        params = {name: p for name, p in adaptation.params.items() if name.endswith((".a", ".b"))}
        # The codes follow from the base: they are not stored.
        return dataclasses.replace(adaptation, params=params, frozen={})

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """A LoRA over a base that bitsandbytes quantises to the same codes. In 8 bits that library rounds the inputs, too."""
        if self.bits != 4:
            raise NotSupported("no library has its base in 8 bits: bitsandbytes rounds the inputs, too")
        pairs = {name: its for name, (_, its) in adaptation.swaps.items() if isinstance(its, QLoRALinear)}
        over: dict[str, tuple[nn.Module, nn.Module]] = {
            name: (wrapper.base, wrapper) for name, wrapper in pairs.items()
        }
        linear = [name for name, its in adaptation.model.named_modules() if isinstance(its, nn.Linear)]
        plain = [name for name in linear if not name.startswith(tuple(f"{name}." for name in pairs))]
        quantisation: dict[str, Any] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": self.backend == "bitsandbytes",
            **({"llm_int8_skip_modules": plain} if plain else {}),
        }
        form = lora_to_peft(dataclasses.replace(adaptation, swaps=over))
        return dataclasses.replace(form, quantisation=quantisation)


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
