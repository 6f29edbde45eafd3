"""Which of a method's tensors come from a random draw, followed through every operation of `inject`.

A draw with a seed of its own looks like a constant: only where it came from tells that no seed of the run reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DRAWS = ("rand", "normal", "uniform", "bernoulli", "exponential", "multinomial", "cauchy", "geometric")
OVERWRITES = ("copy_", "zero_", "fill_")  # what stood there before is gone


class Drawn(TorchDispatchMode):
    """While it is on, what is drawn at random and what is made of that is remembered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[int, Tensor] = {}  # by place in memory; held, so that no place is used again

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        overwrites = name in OVERWRITES
        sources = _tensors((args[1:] if overwrites else args, kwargs))
        random = name.startswith(DRAWS) or any(_place(tensor) in self.kept for tensor in sources)
        for tensor in _tensors(out):
            if random:
                self.kept[_place(tensor)] = tensor
            elif overwrites:
                self.kept.pop(_place(tensor), None)
        return out

    def of(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """The names of those that come from a draw."""
        return [name for name, tensor in tensors.items() if _place(tensor) in self.kept]


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
