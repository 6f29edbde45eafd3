"""Frozen dataclasses out of JSON, each value held to the type that its field declares; lists become the tuples that are meant."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # (value, the name of its field); raises TypeError
_TAKES: dict[Any, tuple[type, ...]] = {float: (float, int)}  # JSON has whole numbers without a point


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from what `dataclasses.asdict` made of one before it went through JSON.

    Raises:
        TypeError: a field is not there, is none of the class's, or is of another type.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"{cls.__name__} is not an object")
    readers = _readers(typing.cast(Any, cls))
    if strange := [name for name in data if name not in readers]:
        raise TypeError(f"{cls.__name__} has no field {strange[0]!r}")
    return cls(**{name: readers[name](value, name) for name, value in data.items()})


@functools.cache
def _readers(cls: type[Any]) -> dict[str, Reader]:
    """How each field is read: looked up once, of what is read for each of thousands of runs."""
    return {name: _reader(hint) for name, hint in typing.get_type_hints(cls).items()}


def _reader(hint: Any) -> Reader:
    if isinstance(hint, types.UnionType):
        inner = _reader(next(arm for arm in typing.get_args(hint) if arm is not type(None)))
        return lambda value, name: None if value is None else inner(value, name)
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_json", None) or functools.partial(from_json, typing.cast(type[Any], hint))
        return lambda value, name: own(value)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _tuple_reader(typing.get_args(hint))
    return _value_reader(origin or hint)


def _tuple_reader(inner: tuple[Any, ...]) -> Reader:
    each = [_reader(one) for one in inner if one is not Ellipsis]

    def read(value: Any, name: str) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} is not a list")
        readers = each * len(value) if inner[-1] is Ellipsis else each
        if len(readers) != len(value):
            raise TypeError(f"{name} has {len(value)} parts, not {len(readers)}")
        return tuple(reader(item, name) for reader, item in zip(readers, value, strict=True))

    return read


def _value_reader(kind: Any) -> Reader:
    if not isinstance(kind, type):
        return lambda value, name: value
    takes = _TAKES.get(kind, (kind,))

    def read(value: Any, name: str) -> Any:
        if type(value) not in takes:
            raise TypeError(f"{name} is {value!r:.40}, not of type {kind.__name__}")
        return value

    return read
