"""Low-rank updates with the weights that they are added to: from a stored run, or from a checkpoint of the PEFT library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import NotSupported, UsageError
from .subspace import Floats

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, OF_A, OF_B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Update:
    """B A beside one weight matrix, or beside one slice of a fused one."""

    name: str  # dotted, as in a stock model; of a slice with its role behind it
    role: str | None  # None where the model is not known
    layer: int | None
    a: Floats  # (rank, in)
    b: Floats  # (out, rank), what the product is multiplied by included
    weight: Floats | None = None  # (out, in); None where the model is not known
    start: Floats | None = None  # A before training, (rank, in)


def updates_at(place: Path, plugins: tuple[str, ...] = ()) -> list[Update]:
    """The updates of a stored run's folder, or of a folder that the PEFT library saved.

    Args:
        plugins: files and folders where the run's method is now, if it is not where it was.

    Raises:
        UsageError: it is neither, or holds no low-rank updates.
    """
    if (place / CONFIG).is_file():
        return _of_checkpoint(place)
    return _of_run(place, plugins)


def _of_checkpoint(folder: Path) -> list[Update]:
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{str(folder)!r} is no checkpoint of the PEFT library that reads: {error}"
        ) from error
    pairs = _pairs(config, tensors, repr(str(folder)))
    return [Update(name, None, None, a, b) for name, (a, b) in pairs.items()]


def _of_run(folder: Path, plugins: tuple[str, ...]) -> list[Update]:
    from .. import architecture, prepare
    from ..adaptation import weight_of
    from ..export import load_sources, own_prefix, rebuilt
    from ..record import Record

    run = Record.from_file(folder / "record.json").run
    load_sources(run, plugins)
    trained = rebuilt(run, folder)
    fresh = prepare.prepare(run, prepare.objective_of(run), "cpu")
    forms = []
    for prepared in (trained, fresh):
        to_peft = getattr(prepare.build_method(run.method)[0], "to_peft", None)
        try:
            if to_peft is None:
                raise NotSupported("its update has no such form")
            form = to_peft(prepared.adaptation)
            forms.append(_pairs(form.config, form.tensors, repr(run.method)))
        except NotSupported as error:
            raise UsageError(f"{run.method!r} trains no low-rank updates to analyze: {error}") from error
    own = own_prefix(trained.adaptation.model)
    sites = architecture.linear_sites(trained.adaptation.model)
    found = []
    for name, (a, b) in forms[0].items():
        weight = _array(weight_of(trained.adaptation.swaps[name][0]))
        start = forms[1][name][0] if name in forms[1] and forms[1][name][0].shape == a.shape else None
        whole = Update(name.removeprefix(own), None, None, a, b, weight, start)
        found += _by_site(whole, sites.get(name, []))
    return found


def _by_site(whole: Update, sites: list[Any]) -> list[Update]:
    """One update for each role that the module plays and that something was trained for."""
    if not sites:
        return [whole]
    found = []
    for site in sites:
        if site.part is None:
            return [Update(whole.name, site.role, site.layer, whole.a, whole.b, whole.weight, whole.start)]
        index, count = site.part
        height = len(whole.b) // count
        rows = slice(index * height, (index + 1) * height)
        ranks = np.flatnonzero(np.any(whole.b[rows] != 0, axis=0))
        if len(ranks):
            found.append(
                Update(
                    f"{whole.name} {site.role}",
                    site.role,
                    site.layer,
                    whole.a[ranks],
                    whole.b[rows][:, ranks],
                    None if whole.weight is None else whole.weight[rows],
                    None if whole.start is None else whole.start[ranks],
                )
            )
    return found


def _pairs(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], said: str
) -> dict[str, tuple[Floats, Floats]]:
    """A and the scaled B of each module.

    Raises:
        UsageError: it is no LoRA, or one whose update is not B A alone.
    """
    if str(config.get("peft_type")) not in ("LORA", "PeftType.LORA"):
        raise UsageError(f"{said} is a {config.get('peft_type')} adapter, not low-rank updates; name a LoRA")
    if config.get("use_dora"):
        raise UsageError(f"{said} also scales the rows of the weights, so its update is not of low rank")
    names = [key.removeprefix(PREFIX).removesuffix(OF_A) for key in tensors if key.endswith(OF_A)]
    if not names:
        raise UsageError(f"{said} holds no pair of low-rank matrices (no tensor ends with {OF_A})")
    found = {}
    for name in names:
        a, b = tensors[f"{PREFIX}{name}{OF_A}"], tensors[f"{PREFIX}{name}{OF_B}"]
        if a.ndim != 2:  # a convolution's
            continue
        alpha = _of_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
        scale = alpha / (len(a) ** 0.5 if config.get("use_rslora") else len(a))
        found[name] = _array(a), _array(b) * scale
    return found


def _of_pattern(pattern: Mapping[str, float] | None, name: str, default: float) -> float:
    """The library's patterns name a module by its end."""
    for key, value in (pattern or {}).items():
        if name == key or name.endswith(f".{key}"):
            return value
    return default


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().double().cpu().numpy()
