"""Module names as the PEFT library reads them: by their endings, and below a prefix that differs from class to class.

A checkpoint of the encoder of `BertForSequenceClassification` says `bert.encoder.layer.0...`, one of `BertModel`
`encoder.layer.0...`, and here the same encoder may stand in a classifier as `backbone.encoder.layer.0...`. What they
share is the name relative to the encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from peftbench.data.peft_files import PREFIX, PeftFiles

DROPPED = "which would be lost; merge it into its base and start from that, or train one without them"


def endings(model: nn.Module, wanted: Collection[str]) -> dict[str, str]:
    """For each wanted module the shortest ending of its name that matches wanted modules alone, as `query` may."""
    everything = [name for name, _ in model.named_modules() if name]
    goal, judged = set(wanted), {}
    found = {}
    for name in wanted:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            ending = ".".join(parts[-count:])
            if ending not in judged:
                matched = {n for n in everything if n == ending or n.endswith(f".{ending}")}
                judged[ending] = matched <= goal
            if judged[ending]:
                break
        found[name] = ending
    return found


def relative_names(model: nn.Module) -> dict[str, str]:
    """Module names relative to the model without its head -> names in the model."""
    inner = getattr(model, "base_model", model)
    prefix = next((name for name, module in model.named_modules() if module is inner), "")
    start = f"{prefix}." if prefix else ""
    return {
        name.removeprefix(start): name for name, _ in model.named_modules() if name.startswith(start) and name
    }


def locate(key: str, names: dict[str, str]) -> tuple[str, str] | None:
    """The module that a checkpoint's key belongs to, and the rest of the key; None where it is none of `names`."""
    parts = key.split(".")
    for start in range(len(parts)):
        for end in range(len(parts) - 1, start, -1):
            module = names.get(".".join(parts[start:end]))
            if module is not None:
                return module, ".".join(parts[end:])
    return None


def also_trained(files: PeftFiles, model: nn.Module) -> str:
    """What a saved adapter trained of the model's own, in words; empty where it is nothing that this model has.

    A classifier's head does not count: a task has its own.
    """
    config = files.config
    if (bias := config.get("bias") or "none") != "none":
        return f"biases (bias={bias})"
    if config.get("trainable_token_indices"):
        return "embeddings of single tokens (trainable_token_indices)"
    names = relative_names(model)
    writes: Any = getattr(model, "get_output_embeddings", lambda: None)()
    heads = {name.rpartition(".")[2] for name, module in model.named_modules() if module is writes}
    saved = config.get("modules_to_save") or ()
    saved = {saved} if isinstance(saved, str) else set(saved)
    found = set()
    for key in files.tensors():
        parts = key.removeprefix(PREFIX).split(".")
        place = locate(".".join(parts), names)
        if place is None:
            found |= heads & set(parts)
        elif saved & set(parts) or (
            place[1] in ("weight", "bias", "base_layer.weight") and config.get("peft_type") != "LN_TUNING"
        ):
            found.add(place[0].rpartition(".")[2])
    return " and ".join(sorted(found))


def listed(names: Iterable[str]) -> str:
    """A few names, and how many more."""
    some = sorted(names)
    return ", ".join(some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "") if some else "none"
