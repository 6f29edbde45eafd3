"""What a method did to a model, and the two ways to do it: `swap` modules, or `select` parameters.

A method answers three questions with an `Adaptation`: what trains, what was put in the place of what, and what is
kept of it afterwards. Freezing, counting, saving, loading, merging and timing are the core's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import NotSupported
from .parted import copy_into
from .roles import Site, sites
from .streams import layer_stream

Batch = dict[str, Tensor]


@runtime_checkable
class Foldable(Protocol):
    """A wrapper that can become one plain layer with the same outputs and no extra cost."""

    def fold(self) -> nn.Module: ...


@runtime_checkable
class Servable(Foldable, Protocol):
    """A foldable wrapper whose update can be put into a plain layer and taken out, and mixed with other tasks'."""

    def add_to(self, layer: nn.Module, sign: float) -> None:
        """Add `sign` times the update to the weight of a layer of the base's kind, in place."""

    def mixed(self, tasks: Sequence[Any], rows: Tensor) -> nn.Module:
        """A layer over the same base that applies to row i of a batch the update of `tasks[rows[i]]`."""


class Fit(Protocol):
    """Trains in place of the step loop, where a closed or convex solution exists.

    It gets `batches(split)`, one pass over a split on the model's device, and returns how many items it learned from. Of
    the training split these are the items that the budget's steps draw for the run's seed, unless `whole_split` asks for all.
    """

    def __call__(self, batches: Callable[[str], Iterable[Batch]]) -> int: ...


class BetweenSteps(Protocol):
    """What a method keeps for itself from one step to the next, so that a training that was ended can carry on."""

    def state(self) -> dict[str, Tensor]:
        """By name."""

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Take it from what `state` gave in an earlier process."""


@dataclass
class Adaptation:
    """What a method did to a model."""

    model: nn.Module
    params: dict[str, nn.Parameter]
    """Exactly what trains; the core freezes all else, and takes out of here what belongs to the head."""
    swaps: dict[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)
    """Module name -> (base module, wrapper)."""
    frozen: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that the method created and does not train, but that its result depends on."""
    after_step: Callable[[int, int], None] | None = None
    """Called after each optimizer step with its number from 0 and the number of all steps, while the step's gradients
    are still there, for methods that reallocate."""
    between_steps: BetweenSteps | None = None
    """What `after_step` keeps. Without it a method with an `after_step` makes no checkpoints."""
    penalty: Callable[[], Tensor] | None = None
    """A scalar that is added to the task's loss in each step. The recorded losses are the task's."""
    groups: dict[str, float] = field(default_factory=dict)
    """Parameter name -> factor on the method's learning rate; 1 where absent."""
    settle: Callable[[], None] | None = None
    """Called once after the last step: turns what was trained into what is kept."""
    stored: Callable[[], dict[str, Tensor]] | None = None
    """What is saved, where that is not `params` and `frozen`."""
    receive: Callable[[Mapping[str, Tensor]], None] | None = None
    """Called with what is about to be loaded, for methods whose shapes training decides."""
    toggle: Callable[[bool], None] | None = None
    """Switches off and on again what is not a swap, such as an attention function."""
    fit: Fit | None = None
    whole_split: bool = False
    """Whether `fit` sees the whole training split, where others see the items that the budget's steps draw for their seed."""
    head: dict[str, nn.Parameter] | None = None
    """The head's parameters, where the method puts another head in place of the model's."""

    def to(self, device: str | torch.device) -> None:
        """Move the model; what it replaced by others on the way is found again by name."""
        self.model.to(device)
        self.find_frozen_again()

    def find_frozen_again(self) -> None:
        """Take by name what stands in the model now in the places of `frozen`."""
        present = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        self.frozen = {
            name: present[name].detach() if name in present else tensor
            for name, tensor in self.frozen.items()
        }

    def set_aside(self) -> None:
        """Move layers of the base that no wrapper holds to the host, off a GPU whose memory they would take."""
        held = {id(p) for p in self.model.parameters()}
        for base, _ in self.swaps.values():
            if held.isdisjoint(id(p) for p in base.parameters()):
                base.to("cpu")

    def state(self) -> dict[str, Tensor]:
        """What is saved, by name; tensors share memory with the model."""
        if self.stored is not None:
            return self.stored()
        return {**{name: p.detach() for name, p in self.params.items()}, **self.frozen}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put saved tensors in place, after settling.

        Raises:
            ValueError: names or shapes differ from what this adaptation stores.
        """
        if self.settle is not None:
            self.settle()
        if self.receive is not None:
            self.receive(state)
        mine = self.state()
        if strange := sorted(mine.keys() ^ state.keys()):
            raise ValueError(f"saved and present tensors differ in {', '.join(strange[:5])}")
        for name, tensor in mine.items():
            if tensor.shape != state[name].shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, saved is {tuple(state[name].shape)}"
                )
            copy_into(tensor, state[name])

    @property
    def mergeable(self) -> bool:
        """Whether every change to the model is a swap that folds into one plain layer."""
        return self.toggle is None and all(isinstance(w, Foldable) for _, w in self.swaps.values())

    def folded(self) -> dict[str, nn.Module]:
        """For each swap, the plain layer that its wrapper folds to."""
        layers: dict[str, nn.Module] = {}
        for name, (base, wrapper) in self.swaps.items():
            if not isinstance(wrapper, Foldable):
                raise NotSupported(f"{type(wrapper).__name__} at {name} can't be merged into its base layer")
            layers[name] = wrapper.fold().train(base.training)
        return layers

    @contextmanager
    def placed(self, layers: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
        """Run with `layers` in the places of the wrappers; the wrappers come back bitwise as they were."""
        self._put(layers)
        try:
            yield self.model
        finally:
            self._put({name: wrapper for name, (_, wrapper) in self.swaps.items()})

    @contextmanager
    def merged(self) -> Iterator[nn.Module]:
        """Run with every wrapper folded to a plain layer; base weights are never written."""
        with self.placed(self.folded()) as model:
            yield model

    @contextmanager
    def without(self) -> Iterator[nn.Module]:
        """Run the base architecture: wrappers taken out, everything else that the method added switched off."""
        device = next(self.model.parameters()).device
        bases = {name: base for name, (base, _) in self.swaps.items()}
        if self.toggle is not None:
            self.toggle(False)
        try:
            with self.placed(bases) as model, ExitStack() as visits:
                for base in bases.values():
                    # One that was set aside comes for its own pass: all of them at once might not fit the device.
                    if any(p.device != device for p in base.parameters()):
                        visits.enter_context(_visiting(base, device))
                yield model
        finally:
            if self.toggle is not None:
                self.toggle(True)

    def remove(self) -> None:
        """Take the method out for good. Exact for swaps; base weights trained in place need a reload."""
        if self.toggle is not None:
            self.toggle(False)
        self._put({name: base for name, (base, _) in self.swaps.items()})

    def _put(self, layers: Mapping[str, nn.Module]) -> None:
        for name, layer in layers.items():
            self.model.set_submodule(name, layer)


@contextmanager
def _visiting(layer: nn.Module, device: torch.device) -> Iterator[None]:
    """For the block, a layer is on the device while it computes, and there alone."""
    own = [(part, name, p) for part in layer.modules() for name, p in part.named_parameters(recurse=False)]

    def come(*_: Any) -> None:
        for part, name, p in own:
            part._parameters[name] = nn.Parameter(p.to(device), requires_grad=False)

    def go(*_: Any) -> None:
        for part, name, p in own:
            part._parameters[name] = p

    hooks = layer.register_forward_pre_hook(come), layer.register_forward_hook(go, always_call=True)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_home: ContextVar[tuple[torch.device, bool] | None] = ContextVar("peftbench_home", default=None)


@contextmanager
def layers_at_home(home: torch.device, for_good: bool = True) -> Iterator[None]:
    """Inside the block, a layer that is to be replaced is on its device while that is done, and stays where what replaces it holds it.

    So a base of which codes alone are kept never is on a device as a whole.

    Args:
        for_good: else what replaces it leaves, too, and a device never holds two of them.
    """
    token = _home.set((home, for_good))
    try:
        yield
    finally:
        _home.reset(token)


@contextmanager
def _at_home(layer: nn.Module) -> Iterator[Callable[[nn.Module], None]]:
    """Brings a layer to its device. Yields what takes from there all that its wrapper does not hold."""
    home, for_good = _home.get() or (None, True)
    before = [(t, t.data) for t in (*layer.parameters(), *layer.buffers())] if home is not None else []
    for tensor, data in before:
        tensor.data = data.to(home)

    def leave(wrapper: nn.Module) -> None:
        if not for_good:
            wrapper.to("cpu")
        held = {id(t) for t in (*wrapper.parameters(), *wrapper.buffers())}
        for tensor, data in before:
            if not for_good or id(tensor) not in held:
                tensor.data = data

    yield leave


def swap(
    model: nn.Module, targets: str | Sequence[Site], build: Callable[[nn.Module, list[Site]], nn.Module]
) -> Adaptation:
    """Replace each module that plays one of the roles `targets`, or stands in a list of sites, by `build(module, its sites)`.

    What `build` draws at random comes from a stream of its own, keyed by the run's seed, the method and the layer.
    Parameters that are new afterwards train; a fused projection is built once, with a site for each slice asked for.

    Raises:
        NotSupported: nothing in the model plays one of the roles, or the module is not a linear layer.
    """
    before = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    by_module: dict[str, list[Site]] = {}
    for site in sites(model, targets) if isinstance(targets, str) else targets:
        by_module.setdefault(site.name, []).append(site)
    swaps: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, its_sites in by_module.items():
        base = its_sites[0].module
        with layer_stream(name), _at_home(base) as leave:
            wrapper = build(base, its_sites)
            leave(wrapper)
        wrapper.train(base.training)
        if isinstance(weight := getattr(base, "weight", None), Tensor) and not hasattr(wrapper, "weight"):
            # T5's feed-forward reads the type of its layer's weight. Not registered: it stays the base's parameter.
            wrapper.__dict__["weight"] = weight
        swaps[name] = (base, wrapper)
        model.set_submodule(name, wrapper)
    params = {name: p for name, p in model.named_parameters() if id(p) not in before}
    frozen = {name: b for name, b in model.named_buffers() if id(b) not in before}
    return Adaptation(model, params, swaps, frozen)


def select(model: nn.Module, wanted: Callable[[str], bool] = lambda name: True) -> Adaptation:
    """Train the model's own parameters whose dotted names are `wanted`, in place.

    Raises:
        NotSupported: no parameter is.
    """
    params = {name: p for name, p in model.named_parameters() if wanted(name)}
    if not params:
        raise NotSupported("nothing to train: no parameter of this model is wanted")
    return Adaptation(model, params)


def together(*adaptations: Adaptation) -> Adaptation:
    """Several methods in one model, each already injected into it, as one.

    Raises:
        ValueError: one of them replaces the head or the step loop, or both name the same thing.
    """
    for one in adaptations:
        if one.fit is not None or one.head is not None or one.receive is not None:
            raise ValueError("a method with a fit, a head or a receive of its own does not combine")
    names = [name for one in adaptations for name in (*one.params, *one.frozen)]
    if len(set(names)) < len(names):
        raise ValueError("two methods train or create a tensor of one name")

    def joined(hooks: Iterable[Callable[..., Any] | None]) -> Callable[..., None] | None:
        present = [hook for hook in hooks if hook is not None]

        def call(*arguments: Any) -> None:
            for hook in present:
                hook(*arguments)

        return call if present else None

    penalties = [one.penalty for one in adaptations if one.penalty is not None]
    return Adaptation(
        adaptations[-1].model,
        params={name: p for one in adaptations for name, p in one.params.items()},
        swaps={name: pair for one in adaptations for name, pair in one.swaps.items()},
        frozen={name: t for one in adaptations for name, t in one.frozen.items()},
        after_step=joined(one.after_step for one in adaptations),
        penalty=(lambda: torch.stack([penalty() for penalty in penalties]).sum()) if penalties else None,
        groups={name: factor for one in adaptations for name, factor in one.groups.items()},
        settle=joined(one.settle for one in adaptations),
        stored=lambda: {name: t for one in adaptations for name, t in one.state().items()},
        toggle=joined(one.toggle for one in adaptations),
    )


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer as (out_features, in_features), a view of GPT-2's transposed one.

    Raises:
        NotSupported: the layer is not linear.
    """
    if isinstance(layer, nn.Linear):
        return layer.weight
    if isinstance(layer, Conv1D):
        weight: Tensor = layer.weight
        return weight.T
    raise NotSupported(f"{type(layer).__name__} is not a linear layer; this method adapts linear layers only")


_uncast: ContextVar[bool] = ContextVar("peftbench_uncast", default=False)


@contextmanager
def uncast() -> Iterator[None]:
    """Inside the block, folded layers keep float32: what the cast to the base's data type costs is then apart from merging."""
    token = _uncast.set(True)
    try:
        yield
    finally:
        _uncast.reset(token)


def folded_type(own: torch.dtype) -> torch.dtype:
    """The data type that a folded layer has in the place of one of type `own`."""
    return torch.float32 if _uncast.get() else own


def plain(base: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A fresh layer of `base`'s class with this weight, (out_features, in_features), cast once to its data type."""
    out_features, in_features = weight.shape
    old = weight_of(base)
    with torch.device(
        "meta"
    ):  # an initialisation would be overwritten, and would draw from the run's streams
        layer: Any = (
            Conv1D(out_features, in_features)
            if isinstance(base, Conv1D)
            else nn.Linear(in_features, out_features, bias=bias is not None)
        )
    layer = layer.to(folded_type(old.dtype)).to_empty(device=old.device)
    with torch.no_grad():
        weight_of(layer).copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False)  # type: ignore[no-any-return]
