"""What is known of a model before a method comes: its weights, what else it leads to, and on what terms it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from .fingerprints import Tensors
from .hidden import tensors_of


class BaseTerms:
    """On what terms a base trains: the mode of its modules, and their dropout.

    Made before the method comes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.dropout = {name: _dropout(module) for name, module in self.modules.items()}
        self.broken: dict[str, None] = {}

    def look(self, inside: set[int]) -> None:
        """Note what is not as it is for every other method.

        Args:
            inside: the numbers of the modules that are in the model now; one that a method replaced has no mode that matters.
        """
        for name, module in self.modules.items():
            if id(module) in inside and not module.training:
                self.broken[f"{name or 'the model'} in evaluation mode"] = None
            if self.dropout[name] and _dropout(module) != self.dropout[name]:
                self.broken[f"{name} with another dropout"] = None


def _dropout(module: nn.Module) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in vars(module).items()
        if isinstance(value, int | float) and ("drop" in name or (name == "p" and "Drop" in type(module).__name__))
    }  # fmt: skip


@dataclass(frozen=True)
class Before:
    """What is known of a model before a method comes."""

    tensors: Tensors
    prints: Mapping[str, int]  # of its weights and buffers
    known: set[int]  # every tensor that it leads to
    head: set[int]  # the parameters of the head that the objective asked for
    outputs: int  # numbers that the head gives; 0: it writes
    terms: BaseTerms

    @classmethod
    def of(cls, model: nn.Module, head: Mapping[str, nn.Parameter], outputs: int) -> Before:
        tensors = Tensors(model, without=head.values())
        prints = tensors.prints()
        return cls(
            tensors, prints, tensors_of(model), {id(p) for p in head.values()}, outputs, BaseTerms(model)
        )

    def moved(self, to: Mapping[int, nn.Parameter]) -> Before:
        """The same where others stand in the places of parameters, by their numbers."""
        self.tensors.moved(to)
        return replace(self, known=self.known | {id(p) for p in to.values()})

    @property
    def parameters(self) -> set[int]:
        """The numbers of its parameters, without the head's."""
        return {id(p) for p in self.tensors.parameters.values()}
