"""Every decoder family of the installed transformers, as a model of few blocks without weights.

`python benchmarks/families.py` prints what each has: docs/results/families.md.
"""

from __future__ import annotations

import signal
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from peftbench.errors import NotSupported
from peftbench.models.roles import sites

FAMILIES: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
BLOCKS, SECONDS = 4, 30
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def without_weights(family: str) -> nn.Module:
    config: Any = transformers.AutoConfig.for_model(family)
    for part in (config, getattr(config, "text_config", None)):
        for name in LAYERS:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, min(getattr(part, name), BLOCKS))
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with torch.device("meta"):
            model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        signal.alarm(0)
    return model


def late(*_: Any) -> None:
    raise TimeoutError(f"takes more than {SECONDS} s")


def asked(model: nn.Module, roles: str) -> Any:
    """The places, or why there are none."""
    try:
        return sites(model, roles)
    except NotSupported as error:
        return str(error)
