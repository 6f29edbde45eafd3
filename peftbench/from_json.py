"""Frozen dataclasses out of JSON, each value held to the type that its field declares; lists become the tuples that are meant."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_TAKES: dict[Any, tuple[type, ...]] = {float: (float, int)}  # JSON has whole numbers without a point


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from what `dataclasses.asdict` made of one before it went through JSON.

    Raises:
        TypeError: a field is not there, is none of the class's, or is of another type.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"{cls.__name__} is not an object")
    hints = _hints(typing.cast(Any, cls))
    if strange := [name for name in data if name not in hints]:
        raise TypeError(f"{cls.__name__} has no field {strange[0]!r}")
    return cls(**{name: _restored(hints[name], value, name) for name, value in data.items()})


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _restored(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return None if value is None else _restored(arms[0], value, name)
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_json", None)
        return from_json(typing.cast(type[Any], hint), value) if own is None else own(value)
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} is not a list")
        inner = typing.get_args(hint)
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(each) != len(value):
            raise TypeError(f"{name} has {len(value)} parts, not {len(each)}")
        return tuple(_restored(one, item, name) for one, item in zip(each, value, strict=True))
    kind = origin or hint
    if isinstance(kind, type) and type(value) not in _TAKES.get(kind, (kind,)):
        raise TypeError(f"{name} is {value!r:.40}, not of type {kind.__name__}")
    return value
