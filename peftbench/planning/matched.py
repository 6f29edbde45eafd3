"""A method at the size that a comparison asks for: by counting on the model without weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cache

from .. import spec
from ..errors import UsageError
from ..plugins import registry
from ..plugins.build import canonical
from ..records.match import WITHIN, Match

LARGEST = 2**20  # above it no field goes
NO_SIZE = 2**62  # of what a model does not take


@dataclasses.dataclass(frozen=True)
class Sized:
    """A method and how near it came."""

    method: str  # SPEC
    refusal: str | None = None  # why it is not near enough


def check_sizes(methods: Iterable[str]) -> None:
    """Refuse methods whose size is said already.

    Raises:
        UsageError: one's is.
    """
    for text in methods:
        field = size_field(text)
        if field is not None and field in dict(spec.parse(text).fields):
            raise UsageError(f"--match sizes {spec.parse(text).name} by its {field}, and {text!r} sets that; leave one of them out")  # fmt: skip


def size_field(text: str) -> str | None:
    """The field by which a method grows; None where it declares none."""
    target = registry.get("method", spec.parse(text).name).target
    return next((field.name for field in dataclasses.fields(target) if field.metadata.get("size")), None)


def sized(text: str, match: Match, figure_of: Callable[[str], int]) -> Sized:
    """The method with its size field at the value that comes nearest.

    Args:
        text: SPEC.
        figure_of: from a SPEC to the figure that is matched.
    """
    field = size_field(text)
    if field is None:
        found = figure_of(text)
        return Sized(text, _why_not(text, found, match, "it has no field to be sized by"))

    def at(size: int) -> str:
        parsed = spec.parse(text)
        return canonical(str(spec.Spec(parsed.name, (*parsed.fields, (field, str(size))))))

    size = nearest(cache(lambda size: figure_of(at(size))), match.target)
    reason = f"there is no smaller {field}" if size == 1 else f"its {field} goes by whole numbers"
    return Sized(at(size), _why_not(at(size), figure_of(at(size)), match, reason))


def nearest(figure_of: Callable[[int], int], target: int) -> int:
    """The size whose figure is nearest, of one that grows with it: two figures tell nearly all of them, as most are straight lines."""
    first = figure_of(1)
    if first >= target:
        return 1
    growth = max(1, figure_of(2) - first)
    low, high = 1, min(LARGEST, 2 + (target - first) // growth)
    while figure_of(high) < target and high < LARGEST:
        low, high = high, min(LARGEST, 2 * high)
    by_line = True  # between the two; then by halves, for what is no straight line
    while high - low > 1:
        share = (target - figure_of(low)) / max(1, figure_of(high) - figure_of(low)) if by_line else 0.5
        middle = min(high - 1, max(low + 1, low + round(share * (high - low))))
        by_line = not by_line
        if figure_of(middle) < target:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda size: abs(figure_of(size) - target))


def _why_not(text: str, found: int, match: Match, reason: str) -> str | None:
    if found == NO_SIZE:
        return f"{text} is refused on this model, and no size of it is near {match.said}"
    away = found / match.target - 1
    if abs(away) <= WITHIN:
        return None
    return f"{text} comes to {found:,}, {away:+.1%} of {match.said}; {reason}, and --match takes what is within {WITHIN:.0%}"
