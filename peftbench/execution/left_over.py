"""What a method leaves in a model when it is taken out: then nothing there is the base, neither its outputs nor its latency."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from ..models.adaptation import Adaptation


class Modules:
    """A model's modules before a method comes, and what runs when each is called.

    Args:
        head: names of the head's parameters, whose modules a method may replace.
    """

    def __init__(self, model: nn.Module, head: Collection[str]) -> None:
        self.attention = _attention(model)
        of_head = {name.rpartition(".")[0] for name in head}
        self.before = {
            name: (module, _called(module)) for name, module in model.named_modules() if name not in of_head
        }

    def left_over(self, adaptation: Adaptation) -> list[str]:
        """The names of those that are not as they were when the swaps are undone; none where it has a switch or a head of its own."""
        if adaptation.toggle is not None or adaptation.head is not None:
            return []
        with adaptation.placed({name: base for name, (base, _) in adaptation.swaps.items()}) as model:
            now: dict[str, Any] = dict(model.named_modules())
            left = [
                name or "the model"
                for name, (module, called) in self.before.items()
                if now.get(name) is not module or _called(module) != called
            ]
            return left if _attention(model) == self.attention else [*left, "the kind of attention"]


def _attention(model: Any) -> Any:
    """Which of the library's implementations computes attention."""
    return getattr(model.config, "_attn_implementation", None)


def _called(module: Any) -> tuple[Any, Any]:
    """What a call of a module runs: its class, or a forward of its own. A hook may do no more than look."""
    return type(module), vars(module).get("forward")
