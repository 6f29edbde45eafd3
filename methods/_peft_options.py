"""Text from a SPEC as the types of the PEFT library's configs: `8`, `true`, `0.5`, `0+1+2`, or one of a few words."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

from peftbench import UsageError


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
    if lists and ("+" in text or str not in kinds):
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
