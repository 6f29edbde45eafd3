"""A run whose outputs are no numbers has failed, wherever they come up: an argmax of them would still be a class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch


class Diverged(ArithmeticError):
    """What a model gives are no longer numbers."""


def check_logits(logits: torch.Tensor) -> None:
    """Whether they are numbers; minus infinity is one, by which a token is ruled out.

    Raises:
        Diverged: one is none.
    """
    if bool((logits.isnan() | logits.isposinf()).any()):
        raise Diverged("outputs are not numbers: the model's logits hold NaN or infinity")


def check_columns(columns: Mapping[str, npt.ArrayLike]) -> None:
    """Whether all that is told of some items is finite, where it is a number.

    Raises:
        Diverged: one is not.
    """
    for name, values in columns.items():
        found = np.asarray(values)
        if found.dtype.kind == "f" and (bad := int((~np.isfinite(found)).sum())):
            raise Diverged(
                f"outputs are not numbers: {name!r} is NaN or infinite for {bad:,} of {found.size:,} items"
            )


def check_figures(found: Mapping[str, float]) -> None:
    """Whether some figures are finite.

    Raises:
        Diverged: one is not.
    """
    for name, value in found.items():
        if not np.isfinite(value):
            raise Diverged(f"outputs are not numbers: {name} is {value}")
