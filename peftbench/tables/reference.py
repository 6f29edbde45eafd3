"""What differences are taken to where the method asked for has nothing to compare with."""

from __future__ import annotations

from collections.abc import Collection

from .. import defaults


def standing_in(method: str, tried: Collection[str], finished: Collection[str]) -> tuple[str, str | None]:
    """The method that differences are taken to, and why there are none, where none of its runs finished.

    Args:
        tried: methods that have a run.
        finished: those that have a good one.
    """
    if method in finished or method not in tried or not finished:
        return method, None
    if method == defaults.REFERENCE and defaults.NEXT_REFERENCE in finished:
        return defaults.NEXT_REFERENCE, None
    return method, f"No differences: {method} has no finished run; name another method with --baseline"
