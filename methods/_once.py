"""What follows from a frozen weight, computed once for as long as the weight stays as it is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# By the weight's storage, which goes with the weight; of each, what was asked for and of which version it is.
_found: weakref.WeakKeyDictionary[torch.UntypedStorage, dict[tuple[Any, ...], Any]] = (
    weakref.WeakKeyDictionary()
)


def once(weight: Tensor, what: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
    """`compute()`, or what it gave before for the same weight and `what`, unless the weight was moved, cast or written to.

    What writes past autograd is not seen, as `weight.data.copy_(...)` and torch's fused optimizers: not for weights that train.
    """
    if torch.compiler.is_compiling() or weight.is_meta or weight.is_inference():
        return compute()
    of_weight = _found.setdefault(weight.untyped_storage(), {})
    key = (*what, weight.dtype, weight.shape, weight.stride(), weight.storage_offset())
    version, found = of_weight.get(key, (None, None))
    if version != weight._version:
        found = compute()
        of_weight[key] = weight._version, found
    return found
