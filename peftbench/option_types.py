"""Types of an option's value: how text, or what a Python program gives, becomes it.

Each parser takes the option as a user writes it (`--train-size`) and what was given, so that its error can name both.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import spec
from .errors import UsageError
from .folders import expanded


@dataclass(frozen=True)
class OptionType:
    """A type of values."""

    metavar: str  # what the help shows in its place
    annotation: Any  # of the Python door
    parse: Callable[[str, Any], Any]
    show: Callable[[Any], Any] = lambda value: value  # a default as a user would write it


def _flag(option: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise UsageError(f"{option} must be True or False, not {given!r}")
    return given


def _whole(option: str, given: Any) -> int:
    try:
        if isinstance(given, bool):
            raise TypeError
        return int(given) if isinstance(given, str) else operator.index(given)
    except (TypeError, ValueError):
        raise UsageError(f"{option} must be a whole number, not {given!r}") from None


def _number(option: str, given: Any) -> float:
    try:
        if isinstance(given, bool):
            raise TypeError
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{option} must be a number, not {given!r}")
    return number


def _text(option: str, given: Any) -> str:
    if not isinstance(given, str):
        raise UsageError(f"{option} must be text, not {given!r}")
    return given


def _spec(option: str, given: Any) -> str:
    return str(spec.parse(_text(option, given)))


def _items(given: Any) -> list[Any] | None:
    """What a Python program gives as a list; None where it is none, as an array of no axis and a mapping, whose values would be lost."""
    if isinstance(given, bytes | Mapping):
        return None
    try:
        return list(given)
    except TypeError:
        return None


def _listed(option: str, given: Any, example: str) -> list[Any]:
    """The same of what must be one."""
    if (items := _items(given)) is None:
        raise UsageError(f"{option} must be a list, or text as in {example}, not {given!r}")
    return items


def _specs(option: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return tuple(str(one) for one in spec.parse_list(given))
    return tuple(_spec(option, one) for one in _listed(option, given, "NAME,NAME:FIELD=VALUE"))


def _grids(option: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return tuple(str(one) for one in spec.grids(given))
    items = _listed(option, given, "NAME,NAME:FIELD=VALUE")
    return tuple(str(one) for item in items for one in spec.grid(_text(option, item)))


def _names(option: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, os.PathLike):
        given = [given]
    names = given.split(",") if isinstance(given, str) else _listed(option, given, "NAME,NAME")
    texts = (os.fspath(one) if isinstance(one, os.PathLike) else _text(option, one) for one in names)
    return tuple(name for text in texts if (name := text.strip()))


def _size(option: str, given: Any) -> int | None:
    if given is None or (isinstance(given, str) and given.strip().lower() == "all"):
        return None
    try:
        return _whole(option, given)
    except UsageError:
        raise UsageError(
            f"{option} {given!r} is not a number of items; write it as in 100,1000,all"
        ) from None


def _sizes(option: str, given: Any) -> tuple[int | None, ...]:
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
    items = _items(given)
    return tuple(_size(option, one) for one in ([given] if items is None else items))  # one number


def _cells(option: str, given: Any) -> tuple[tuple[int, int], ...]:
    if isinstance(given, str):
        given = [] if given.strip().lower() in ("", "none") else given.split(",")
    return tuple(_cell(option, one) for one in _listed(option, given, "1x32,4x32"))


def _cell(option: str, given: Any) -> tuple[int, int]:
    try:
        batch, length = given.strip().lower().split("x") if isinstance(given, str) else given
        cell = _whole(option, batch), _whole(option, length)
    except (TypeError, ValueError, UsageError):
        cell = 0, 0
    if min(cell) < 1:
        said = given.strip() if isinstance(given, str) else given
        raise UsageError(f"{option} {said!r} is not BATCHxLENGTH; write it as in 1x32,4x32")
    return cell


def _part(option: str, given: Any) -> tuple[int, int]:
    try:
        number, count = given.split("/") if isinstance(given, str) else given
        part = _whole(option, number), _whole(option, count)
    except (TypeError, ValueError, UsageError):
        part = 0, 0
    if not 1 <= part[0] <= part[1]:
        raise UsageError(f"{option} {given!r} is no part of a whole; write it as in 2/4")
    return part


def given_path(option: str, given: Any) -> Path:
    """A path from text, or from what a Python program gives.

    Raises:
        UsageError: it is none, or names nothing that could be there.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{option} must be a path, not {given!r}")
    return expanded(given, option)


def _folder(option: str, given: Any) -> str:
    path = given_path(option, given)
    if not path.is_dir():
        raise UsageError(f"{option} {str(given)!r} is not a folder")
    return str(path.resolve())


def plugin_paths(given: Any, option: str = "--plugins") -> tuple[str, ...]:
    """Those that are given and those of PEFTBENCH_PLUGINS."""
    given = [given] if isinstance(given, str | os.PathLike) else _listed(option, given, "FILE")
    named = [part for part in os.environ.get("PEFTBENCH_PLUGINS", "").split(os.pathsep) if part]
    return (*(str(given_path(option, one)) for one in given), *named)


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


FLAG = OptionType("", bool, _flag)
WHOLE = OptionType("INT", int, _whole)
NUMBER = OptionType("FLOAT", float, _number)
TEXT = OptionType("TEXT", str, _text)
SPEC = OptionType("SPEC", str, _spec)
SPECS = OptionType("SPEC,...", str | Sequence[str], _specs, _joined)
GRIDS = OptionType("SPEC,...", str | Sequence[str], _grids, _joined)  # a field may have several values
NAMES = OptionType("NAME,...", str | Path | Sequence[str | Path], _names, _joined)
SIZES = OptionType(
    "INT|all,...",
    str | int | Sequence[int | str | None],
    _sizes,
    lambda sizes: _joined(["all" if size is None else size for size in sizes]),
)
CELLS = OptionType(
    "INTxINT,...",
    str | Sequence[tuple[int, int]],
    _cells,
    lambda cells: _joined([f"{batch}x{length}" for batch, length in cells]),
)
PART = OptionType("I/N", str | tuple[int, int], _part, lambda part: f"{part[0]}/{part[1]}")
FILE = OptionType(
    "FILE",
    str | Path,
    lambda option, given: _text(option, os.fspath(given) if isinstance(given, os.PathLike) else given),
)
PATH = OptionType("PATH", str | Path, lambda option, given: str(given_path(option, given)))
FOLDER = OptionType("DIR", str | Path, _folder)
PATHS = OptionType("PATH", Sequence[str | Path], lambda option, given: plugin_paths(given, option))
