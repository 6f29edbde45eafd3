"""A check that there is no memory for is not tested: the run that it looks at is good."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..models.parted import any_is_shared
from ..records.record import NOT_TESTED, Check


def within_memory(name: str, look: Callable[[], Check | None]) -> Check | None:
    """What a check finds, or that there was no memory for it.

    Where processes share weights, all must do the same: there the error ends the run.
    """
    try:
        return look()
    except Exception as error:
        if not is_out_of_memory(error) or any_is_shared():
            raise
        return not_tested(name)


def not_tested(name: str) -> Check:
    """What is said of such a check."""
    return Check(name, NOT_TESTED, "there is not enough memory for this check")


def is_out_of_memory(error: Exception) -> bool:
    """Whether that is what an error says; torch has no class of its own for a processor's memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
