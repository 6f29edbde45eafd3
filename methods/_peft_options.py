"""Text from a SPEC as the types of the PEFT library's configs: `8`, `true`, `0.5`, `0+1+2`, or one of a few words.

An option that changes nothing is refused: its row would be named after it and equal the one without it.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from peftbench import NotSupported, UsageError

# Option -> the other one without which it does nothing, and the values of that one with which it does.
NEEDS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "qalora_group_size": ("use_qalora", (True,)),
    "svd_threshold": ("use_dynamic_rank", (True,)),
    "eps": ("coft", (True,)),
    "num_cayley_neumann_terms": ("use_cayley_neumann", (True,)),
    "cayley_neumann_eps": ("use_cayley_neumann", (True,)),
    **dict.fromkeys(
        (
            "asa_target_subspaces",
            "init_warmup",
            "final_warmup",
            "mask_interval",
            "asa_importance_beta",
            "asa_uncertainty_beta",
            "asa_schedule_exponent",
        ),
        ("use_asa", (True,)),
    ),
}


def convert(text: str, hint: Any, where: str) -> Any:
    """The value that `text` writes for a field of type `hint`.

    Raises:
        UsageError: it writes none, or the field takes what can't be written in a SPEC.
    """
    kinds = _arms(hint)
    if type(None) in kinds and text.lower() in ("none", ""):
        return None
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    words = [
        word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)
    ]
    lists = [kind for kind in kinds if typing.get_origin(kind) in (list, set, tuple)]
    for word in words:
        if text == str(word):
            return word
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    for kind in kinds:
        if (
            isinstance(kind, type)
            and issubclass(kind, enum.Enum)
            and text in [str(one.value) for one in kind]
        ):
            return kind(text)
    if lists:  # one name alone too: as a text the library takes it for a regular expression of whole names
        (item, *_) = typing.get_args(lists[0]) or (str,)
        return [convert(part.strip(), item, where) for part in text.split("+")]
    if str in kinds:
        return text
    can = [*("a whole number" for k in kinds if k is int), *("a number" for k in kinds if k is float)]
    can += ["true or false"] if bool in kinds else []
    can += [f"one of {', '.join(map(str, words))}"] if words else []
    if not can:
        raise UsageError(f"{where} takes what can't be written in a SPEC; leave it out")
    raise UsageError(f"{where} must be {' or '.join(can)}, not {text!r}")


def _arms(hint: Any) -> list[Any]:
    """The alternatives of a type, flat."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [arm for part in typing.get_args(hint) for arm in _arms(part)]
    return [hint]


def check_needs(config: Any, names: Iterable[str], where: str) -> None:
    """Whether each option that was given can do anything beside the others.

    Raises:
        UsageError: one needs another that is not set.
    """
    for name in names:
        other, values = NEEDS.get(name, ("", ()))
        if other and getattr(config, other, None) not in values:
            raise UsageError(
                f"{where}: {name} does nothing without {other}={str(values[0]).lower()}; leave it out"
            )


def check_names(config: Any, model: nn.Module) -> None:
    """Whether each name and layer in a config's options is one of the model's.

    Raises:
        NotSupported: one is not, so that it would do nothing.
    """
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters()]
    for option, known in (("exclude_modules", modules), ("target_parameters", parameters)):
        for name in getattr(config, option, None) or ():
            if not any(_ends(one, [name]) for one in known):
                raise NotSupported(
                    f"{option}: nothing in this model is called {name!r}; leave it out or mend it"
                )
    excluded: Any = getattr(config, "exclude_modules", None)
    if excluded and not any(_ends(name, excluded) and _ends(name, config.target_modules) for name in modules):
        raise NotSupported(
            "exclude_modules leaves out nothing that is adapted; leave it out or name other modules"
        )
    layers: Any = getattr(config, "layers_to_transform", None)
    for layer in [layers] if isinstance(layers, int) else layers or ():
        if not any(f".{layer}." in f".{name}." for name in modules):
            raise NotSupported(f"layers_to_transform: this model has no layer {layer}")


def _ends(name: str, endings: Iterable[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def check_heard(warned: Iterable[str], names: Iterable[str]) -> None:
    """Whether the library has warned of an option that was given.

    Raises:
        NotSupported: it has: the option does nothing, or something else than it says.
    """
    for said in warned:
        for name in names:
            if len(name) > 2 and re.search(rf"\b{name}\b", said):
                raise NotSupported(f"the PEFT library warns of {name}: {' '.join(said.split())[:200]}")
