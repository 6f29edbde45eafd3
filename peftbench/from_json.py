"""Frozen dataclasses out of JSON: lists become the tuples that the fields declare."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from what `dataclasses.asdict` made of one before it went through JSON."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _restored(hints[name], value) for name, value in data.items()})


def _restored(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return None if value is None else _restored(arms[0], value)
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_json", None)
        return from_json(typing.cast(type[Any], hint), value) if own is None else own(value)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_restored(one, item) for one, item in zip(each, value, strict=True))
    return value
