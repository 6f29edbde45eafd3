"""The table of methods in docs/methods.md, from what each declares and from what it does to models without weights.

`python -m peftbench.inspection.methods_table docs/methods.md` writes it between its two marks, `peftbench list methods --format
markdown` prints it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..errors import NotSupported, UsageError
from ..models.adaptation import Adaptation
from ..models.pooled import MeanPooledClassifier
from ..plugins import registry
from ..plugins.build import build_method
from ..plugins.contracts import Facts

BEGIN, END = "<!-- made by `make docs` from the registry -->", "<!-- end -->"
WIDTHS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 64,
    "pad_token_id": 0,
}
Maker = Callable[[], transformers.PreTrainedConfig]
CONFIGS: dict[str, Maker] = {
    "BERT": lambda: transformers.BertConfig(**WIDTHS),
    "RoBERTa": lambda: transformers.RobertaConfig(**WIDTHS),
    "DistilBERT": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=64, pad_token_id=0
    ),
    "DeBERTa": lambda: transformers.DebertaV2Config(**WIDTHS),
    "GPT-2": lambda: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
    "Llama": lambda: transformers.LlamaConfig(**WIDTHS, num_key_value_heads=2),
    "Qwen2": lambda: transformers.Qwen2Config(**WIDTHS, num_key_value_heads=2),
    "OPT": lambda: transformers.OPTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32,
        vocab_size=64, pad_token_id=0,
    ),
    "T5": lambda: transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=64, pad_token_id=0
    ),
}  # fmt: skip
NO_FACTS = Facts("", "", "")


@dataclass(frozen=True)
class Served:
    """What injecting a method into models without weights showed."""

    families: tuple[str, ...]
    refusals: dict[str, str]  # family -> why
    in_place: bool  # trains the model's own weights, so that there is nothing to merge
    stored: int | None  # bytes kept for BERT-base, without the head


def methods_table(entries: Iterable[registry.Entry]) -> str:
    """A Markdown table, a method a line, and below it why some do not serve some families."""
    lines = [
        f"| name | equation | trained parameters | stored, kB for BERT-base | merges | works on (of {len(CONFIGS)} families) | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    refused: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        facts, served = entry.declared.facts or NO_FACTS, _served(entry.name)
        cells = (
            f"`{entry.name}`",
            f"`{facts.equation}`" if facts.equation else "",
            facts.count,
            facts.stored if served.stored is None else f"{facts.stored}: {served.stored / 1000:,.0f}",
            _merges(entry.declared.claims.mergeable, served),
            _families(served.families),
            facts.paper,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for family, why in served.refusals.items():
            refused.setdefault(f"`{entry.name}`: {why}", []).append(family)
    lines += ["", f"Families: {', '.join(CONFIGS)}. Not supported, and the reason that the row gives:", ""]
    lines += [f"- {_all(names)}, {said}" for said, names in refused.items()]
    return "\n".join(lines) + "\n"


def _merges(claimed: bool, served: Served) -> str:
    if not served.families:
        return "see below"
    return "in place" if served.in_place else "yes" if claimed else "no"


def _families(served: tuple[str, ...]) -> str:
    missing = [name for name in CONFIGS if name not in served]
    if not missing:
        return "all"
    if len(missing) <= len(served):
        return "all but " + ", ".join(missing)
    return ", ".join(served) or "see below"


def _all(names: list[str]) -> str:
    return "any model" if len(names) == len(CONFIGS) else ", ".join(names)


def _served(name: str) -> Served:
    refusals: dict[str, str] = {}
    stored, in_place = None, False
    for family, config in CONFIGS.items():
        try:
            _injected(name, _without_weights(config()))
        except (NotSupported, UsageError) as refusal:
            refusals[family] = str(refusal)
    if "BERT" not in refusals:
        bert = transformers.BertConfig()
        with torch.device("meta"):
            model = MeanPooledClassifier(transformers.BertModel(bert, add_pooling_layer=False), 2)
        own = {id(p) for p in model.parameters()}
        adaptation = _injected(name, model)
        # The head, which every method stores beside this, has the same name in every classifier of this kind.
        kept = {n: t for n, t in adaptation.state().items() if not n.startswith("classifier.")}
        stored = sum({id(t): t.numel() * t.element_size() for t in kept.values()}.values())
        in_place = not adaptation.swaps and {id(p) for p in adaptation.params.values()} <= own
    served = tuple(family for family in CONFIGS if family not in refusals)
    return Served(served, refusals, in_place, stored)


def _without_weights(config: transformers.PreTrainedConfig) -> nn.Module:
    """A classifier of a family on the meta device."""
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModelForSequenceClassification.from_config(config)
    return model


def _injected(name: str, model: nn.Module) -> Adaptation:
    return build_method(name)[0].inject(model)


def built_in() -> list[registry.Entry]:
    """The methods of the folder `methods/`, whatever else is registered."""
    entries = registry.load("method").values()
    folder = Path(importlib.import_module("peftbench.methods").__path__[0]).resolve()
    return [entry for entry in entries if entry.path.parent == folder]


def replaced(page: str, table: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UsageError(f"the page has no place for the table: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(replaced(file.read_text(encoding="utf-8"), methods_table(built_in())), encoding="utf-8")
