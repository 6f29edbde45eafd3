"""What `--advise` may be limited by: the option, and how its words are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import UsageError

BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
JOULES = {"J": 1.0, "mJ": 1e-3, "kJ": 1e3}


@dataclass(frozen=True)
class Limit:
    """The most that a method may have of a measure."""

    option: str  # --max-vram
    help: str
    read: Callable[
        [str, str], float
    ]  # (option, text) to the unit that the figure is kept in; raises UsageError

    @property
    def parameter(self) -> str:
        """max_vram."""
        return self.option.removeprefix("--").replace("-", "_")


def size(option: str, text: str) -> float:
    """Bytes, from `16GB`."""
    return _in_units(option, text, BYTES, "a size; write it as in 16GB or 500MB")


def energy(option: str, text: str) -> float:
    """Joules, from `20mJ`."""
    return _in_units(option, text, JOULES, "an energy; write it as in 20mJ, 5J or 2kJ")


def share(option: str, text: str) -> float:
    """A fraction, from `2%`."""
    if not text.strip().endswith("%"):
        raise UsageError(f"{option} {text!r} is not a share; write it as in 2%")
    return _number(option, text.strip()[:-1]) / 100


def count(option: str, text: str) -> float:
    """A number, from `1,000,000`."""
    return _number(option, text.replace(",", ""))


def _in_units(option: str, text: str, units: Mapping[str, float], wanted: str) -> float:
    found = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", text)
    factor = None if found is None else units.get(found[2], units.get(found[2].lower()))
    if found is None or factor is None:
        raise UsageError(f"{option} {text!r} is not {wanted}")
    return _number(option, found[1]) * factor


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0 or math.isinf(value):
        raise UsageError(f"{option} {text!r} is not a number above 0")
    return value
