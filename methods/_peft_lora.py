"""LoRA pairs to and from the PEFT library's files.

There a pair covers all outputs of a module. The pairs of a fused projection's slices become one pair of as many times the
rank, whose B has zero rows outside of each slice, so that outputs are the same; its alpha is as many times as large, since
that library divides by the rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftbench import Adaptation, NotSupported, PeftExport, UsageError, weight_of
from peftbench.data.peft_files import (
    PREFIX,
    PeftFiles,
    adapter_folder,
    check_pairs,
    factor_of,
    rank_and_alpha,
)

from ._peft_names import DROPPED, also_trained, listed, locate, relative_names

# A (rank, in_features), B (out_features, rank), what their product is multiplied by.
Pair = tuple[Tensor, Tensor, float]


def pair_of(layer: Any) -> Pair:
    """The pair of a `LoRALinear` or of a relative that changes what is below (`down`) or above (`up`) alone."""
    return (layer.down() if hasattr(layer, "down") else layer.a), layer.up(), layer.scale


@torch.no_grad()
def lora_to_peft(adaptation: Adaptation, pair: Callable[[Any], Pair] = pair_of) -> PeftExport:
    """Every wrapper as the LoRA that the PEFT library would save: config and tensors.

    Args:
        pair: reads a wrapper; one with a `magnitude`, a length for each adapted row, becomes a DoRA.

    Raises:
        NotSupported: the pairs lie over something else than the model's own layers, or are not all that trained.
    """
    inside = tuple(f"{name}." for name in adaptation.swaps)
    if beside := [name for name in adaptation.params if not name.startswith(inside)]:
        raise NotSupported(f"a LoRA does not hold all that it trained ({listed(beside)})")
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    dropout, dora = 0.0, False
    for name, (base, wrapper) in adaptation.swaps.items():
        layer: Any = wrapper
        if getattr(layer, "base", None) is not base:
            raise NotSupported(
                f"its pairs were trained over a quantised layer at {name}, not over the model's own"
            )
        a, b, scale = pair(layer)
        if not len(a):  # all of its ranks went
            continue
        ranks[name], alphas[name] = len(a), scale * len(a)
        dropout = getattr(layer, "dropout", 0.0)
        start = f"{PREFIX}{name}.lora_"
        tensors |= {f"{start}A.weight": a, f"{start}B.weight": b}
        if hasattr(layer, "magnitude"):
            dora = True
            lengths = weight_of(base).float().norm(dim=1)
            lengths[torch.cat([torch.arange(rows.start, rows.stop) for rows in layer.rows])] = layer.magnitude
            tensors[f"{start}magnitude_vector"] = lengths
    if not ranks:
        raise NotSupported("no rank is left in any of its layers")
    (rank, alpha), _ = Counter((ranks[name], alphas[name]) for name in ranks).most_common(1)[0]
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "lora_dropout": dropout,
        "use_rslora": False,
        "use_dora": dora,
        "fan_in_fan_out": any(isinstance(base, Conv1D) for base, _ in adaptation.swaps.values()),
        "bias": "none",
    }
    return PeftExport(config, {name: tensor.detach().clone() for name, tensor in tensors.items()})


def read_peft_lora(folder: str, adaptation: Adaptation, settings: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """A LoRA that the PEFT library saved, in a folder or under a hub id, for the wrappers of an adaptation.

    Args:
        adaptation: has the layers that are to start from it, each with `rows` as a `LoRALinear`.
        settings: the `LoRA`, whose rank and scale the checkpoint must have too: a wrong one silently ruins it.

    Returns:
        For each wrapper's name A (pairs * rank, in_features) and B (adapted rows, rank).

    Raises:
        UsageError: it is no LoRA, or its rank, alpha or targets are not the method's.
    """
    checkpoint = PeftFiles(adapter_folder(folder))
    config = checkpoint.config
    said = f"start {folder!r}"
    check_pairs(config, said)
    if also := also_trained(checkpoint, adaptation.model):
        raise UsageError(f"{said}: the adapter also trained {also}, {DROPPED}")
    read = _read(checkpoint, adaptation.model, said)
    if read.keys() != adaptation.swaps.keys():
        raise UsageError(
            f"{said} adapts {listed(read)}, the method's targets are {listed(adaptation.swaps)}: "
            f"only in the checkpoint: {listed(read.keys() - adaptation.swaps.keys())}; "
            f"only in the method: {listed(adaptation.swaps.keys() - read.keys())}"
        )
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (base, wrapper) in adaptation.swaps.items():
        rows: list[slice] = wrapper.rows  # type: ignore[assignment]
        a, b, theirs = read[name]
        pairs = len(rows)
        r, value = rank_and_alpha(config, theirs)
        rooted = bool(config.get("use_rslora"))
        factor = factor_of(config, r, value)
        if r != pairs * settings.rank or not math.isclose(factor, settings.scale, rel_tol=1e-6):
            own = r / pairs
            wanted = factor / dataclasses.replace(settings, rank=max(1, round(own)), alpha=1.0).scale
            over = (
                f" (one pair over all of {name}; the method has {pairs})"
                if pairs > 1 and r == settings.rank
                else ""
            )
            raise UsageError(
                f"{said}: its rank is {own:g} and its alpha {value / pairs:g}{' (rslora)' if rooted else ''}, the method's "
                f"are {settings.rank} and {settings.alpha:g}; write rank={own:g}:alpha={wanted:g}{over}"
            )
        if tuple(a.shape) != (r, weight_of(base).shape[1]) or tuple(b.shape) != (weight_of(base).shape[0], r):
            raise UsageError(
                f"{said}: at {name} it has {tuple(a.shape)} and {tuple(b.shape)}: another model's sizes"
            )
        found[name] = a.float(), _cut(b.float(), rows, settings.rank, f"{said} at {name}")
    return found


def fingerprint_of(folder: str) -> str:
    """A hash of a checkpoint's files, so that results of another one are not taken for this one's."""
    return PeftFiles(adapter_folder(folder)).fingerprint()


def _read(checkpoint: PeftFiles, model: nn.Module, said: str) -> dict[str, tuple[Tensor, Tensor, str]]:
    """Module name -> A, B, and the module's name in the checkpoint; heads that were saved beside stay out."""
    names = relative_names(model)
    heads = tuple(checkpoint.config.get("modules_to_save") or ())
    parts: dict[str, dict[str, Tensor]] = {}
    theirs: dict[str, str] = {}
    for key, tensor in checkpoint.tensors().items():
        inner = key.removeprefix(PREFIX)
        place = locate(inner, names)
        if place is None or place[1] not in ("lora_A.weight", "lora_B.weight"):
            if any(part in heads for part in inner.split(".")):
                continue
            raise UsageError(f"{said} has {inner!r}, for which this model has no place")
        # A wrapper's own base is below it, so the module that was found is the wrapper itself.
        parts.setdefault(place[0], {})[place[1]] = tensor
        theirs[place[0]] = inner.removesuffix(f".{place[1]}")
    return {name: (ab["lora_A.weight"], ab["lora_B.weight"], theirs[name]) for name, ab in parts.items()}


def _cut(b: Tensor, rows: list[slice], rank: int, said: str) -> Tensor:
    """B for all outputs, (out_features, pairs * rank), as (adapted rows, rank): the inverse of writing it."""
    kept = []
    rest = b.clone()
    for pair, part in enumerate(rows):
        columns = slice(pair * rank, (pair + 1) * rank)
        kept.append(b[part, columns])
        rest[part, columns] = 0
    if rest.any():
        raise UsageError(
            f"{said}: its pairs reach outputs that the method does not adapt; name other targets"
        )
    return torch.cat(kept)
