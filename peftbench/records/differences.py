"""What is not the same in two places where runs were done, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Sides = tuple[str, str]  # what the two are called, as in ("in A", "in B")
PROGRAM = "this program at"


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str], sides: Sides
) -> list[str]:
    """Each of the names whose value is another: `threads 2 in A, 4 in B`."""
    return [
        f"{name} {_shown(one.get(name))} {sides[0]}, {_shown(other.get(name))} {sides[1]}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def differing_software(one: Mapping[str, Any], other: Mapping[str, Any], sides: Sides) -> list[str]:
    """The libraries of two environments, and the program's commit."""
    of_one, of_other = (environment.get("libraries") or {} for environment in (one, other))
    found = differing(of_one, of_other, sorted({*of_one, *of_other}), sides)
    then, now = ({PROGRAM: (environment.get("git_commit") or "none")[:12]} for environment in (one, other))
    return found + differing(then, now, (PROGRAM,), sides)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
