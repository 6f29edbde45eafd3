"""Which layers of a loaded model are new, and what of its checkpoint was left out.

A classifier's head is always new: one that a checkpoint brings was trained on labels of its own, in an order of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import ModelError

SHOWN = 3  # names of a long list


@dataclass(frozen=True)
class Fresh:
    """What is to be drawn, and what a reader should know of the checkpoint."""

    names: frozenset[str]  # of parameters
    notices: tuple[str, ...] = ()


def fresh_of(model: nn.Module, info: Mapping[str, Any], name: str) -> Fresh:
    """What the library's loading info says of a model.

    Args:
        info: `missing_keys`, `unexpected_keys` and `mismatched_keys` (name, shape in the file, shape in the model).
        name: of the model, for messages.

    Raises:
        ModelError: the weights lack something that only training gives, or have other shapes than config.json says.
    """
    parameters = [parameter for parameter, _ in model.named_parameters()]
    missing = set(info["missing_keys"]) & set(parameters)
    shapes = {key: (tuple(theirs), tuple(ours)) for key, theirs, ours in info["mismatched_keys"]}
    outside = _outside(model, parameters)
    if other := sorted(shapes.keys() - outside):
        theirs, ours = shapes[other[0]]
        raise ModelError(
            f"model {name!r} does not load: {other[0]} is {theirs} in its weights and {ours} by its config.json; the two do not "
            "belong together"
        )
    if lacking := sorted(key for key in missing - outside if "pooler" not in key):
        raise ModelError(
            f"model {name!r} does not load: its weights lack {_listed(lacking)}, which would be random; save the whole model again"
        )
    drawn = missing | shapes.keys()
    own = bool(outside) and (bool(shapes) or not outside & drawn)
    # A layer of which a part is new is new as a whole; where nothing says that any is, the head is the checkpoint's own.
    tops = {top for key in drawn & outside for top in [key.split(".")[0]]}
    drawn |= {key for key in outside if own or key.split(".")[0] in tops}
    notices = []
    if own:
        notices.append(
            f"the checkpoint's own head ({_labels(model, shapes)}) is left out, and a new one is trained"
        )
    if beyond := sorted(key for key in info["unexpected_keys"] if re.search(r"\.\d+\.", key)):
        notices.append(f"the weights have {_listed(beyond)}, which config.json does not have: left out")
    return Fresh(frozenset(drawn), tuple(notices))


def _outside(model: nn.Module, parameters: list[str]) -> set[str]:
    """Of a classifier, the parameters that are not its encoder's; of a model that writes nothing, for its head is its own."""
    base = getattr(model, "base_model", model)
    if base is model or getattr(model, "get_output_embeddings", lambda: None)() is not None:
        return set()
    inside = {id(parameter) for parameter in base.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in inside}


def _labels(model: nn.Module, shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    if shapes:
        return f"of {next(iter(shapes.values()))[0][0]} outputs"
    labels: Any = getattr(model.config, "id2label", None) or {}
    return f"labels {', '.join(str(label) for label in list(labels.values())[:4])}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
