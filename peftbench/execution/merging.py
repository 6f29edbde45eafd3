"""Whether what is merged is what was trained: on the run's own lengths and in its own type, with the base left as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..models.adaptation import Adaptation, uncast
from ..models.parted import any_is_shared
from ..plugins.contracts import Claims
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check
from ..records.runs import Run
from .fingerprints import changed, fingerprints, some
from .out_of_memory import is_out_of_memory, within_memory
from .probe import Probe, agreement, distance, outputs

MERGE_TOLERANCE = 0.05  # of what the adapter changes
AGREEMENT = 0.995  # share of equal predictions
LEAST_CHANGE = 1e-6  # of the outputs' norm: below it, what the adapter changes drowns in rounding
ROUNDING = 2.0  # times what the type's rounding moves the base's own outputs by
NAME = "merge"


class FoldOnCall(nn.Module):
    """Folds a wrapper anew for each call, so that no second copy of all folded weights is ever held."""

    def __init__(self, wrapper: nn.Module, base: nn.Module) -> None:
        super().__init__()
        self.wrapper = wrapper
        self.plain_kinds = (type(base), nn.Linear, Conv1D)
        self.strange: str | None = None  # what it folds to, where that is no plain layer
        self.__dict__["weight"] = getattr(wrapper, "weight", None)  # T5 reads its type

    def folded(self, device: torch.device) -> nn.Module:
        """The plain layer, made without autocast, in which it is to be used and not made."""
        with torch.autocast(device.type, enabled=False):
            layer: nn.Module = self.wrapper.fold()  # type: ignore[operator]
        if layer is self.wrapper or type(layer) not in self.plain_kinds:
            self.strange = type(layer).__name__
        return layer.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.folded(x.device)(x)  # type: ignore[no-any-return]


class Compared(nn.Module):
    """A wrapper that, for each call, also computes in float32 what its base gives and what it gives unmerged, merged, and cast."""

    def __init__(self, fold: FoldOnCall, wrapper: nn.Module, base: nn.Module) -> None:
        super().__init__()
        self.fold, self.wrapper, self.base = fold, wrapper, base
        self.squares = dict.fromkeys(("base", "change", "merge", "cast"), 0.0)  # of norms, over the calls
        self.__dict__["weight"] = getattr(wrapper, "weight", None)

    def forward(self, x: Tensor) -> Tensor:
        base, trained = in_float32(self.base, self.base, x), in_float32(self.wrapper, self.base, x)
        with uncast():
            merged = self.fold.folded(x.device)
        cast = self.fold.folded(x.device)
        off, rounded = in_float32(merged, merged, x) - trained, in_float32(cast, cast, x) - trained
        for what, values in (("base", base), ("change", trained - base), ("merge", off), ("cast", rounded)):
            self.squares[what] += float(values.square().sum())
        return self.wrapper(x)  # type: ignore[no-any-return]


def in_float32(layer: nn.Module, held: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives in float32, the weights that it holds in another type too for the length of the call."""
    kept = {p: p.data for p in held.parameters() if p.is_floating_point()}
    for p, data in kept.items():
        p.data = data.float()
    try:
        with torch.autocast(x.device.type, enabled=False):
            return layer(x.float()).float()  # type: ignore[no-any-return]
    finally:
        for p, data in kept.items():
            p.data = data


def merge(
    adaptation: Adaptation,
    claims: Claims,
    probes: Sequence[Probe],
    autocast: AbstractContextManager[Any] | None = None,
) -> Check:
    """Protocol: relative to what the adapter changes, so that an adapter that is too small to see does not pass.

    Args:
        autocast: the run's own, entered again where it computes in another type than float32; None: it does not.
    """
    if not claims.mergeable:
        return Check(NAME, NOT_CLAIMED)
    if not adaptation.mergeable:
        return Check(NAME, FAIL, "claims to merge, but not every change is a wrapper with fold()")
    if not adaptation.swaps:
        return Check(NAME, PASS, "nothing to fold: it is the model's own layers")
    kept = fingerprints(_kept(adaptation))
    folds = {name: FoldOnCall(wrapper, base) for name, (base, wrapper) in adaptation.swaps.items()}
    half = probes[0].autocast is not None
    found = [(_compare_layers if half else _compare)(adaptation, folds, probe) for probe in probes]
    if autocast is not None:
        found.append(_compare(adaptation, folds, probes[0], autocast))
    if spoiled := changed(kept, fingerprints(_kept(adaptation))):
        return Check(NAME, FAIL, f"fold() changes {some(spoiled)}, which it must leave as it is")
    if strange := {fold.strange for fold in folds.values() if fold.strange}:
        said = f"fold() returns {', '.join(sorted(strange))}, no plain layer of the base's class"
        return Check(NAME, FAIL, said)
    bad = [check for check in found if check.outcome == FAIL]
    good = [check for check in found if check.outcome == PASS]
    return (bad or good or found)[0]


def before_writing(
    run: Run, adaptation: Adaptation, claims: Claims, writes: bool, probes: Callable[[], Sequence[Probe]]
) -> Check | None:
    """What `merge` finds, where the model writes merged if it is proven: on a GPU, with weights in the type of the compute.

    Args:
        probes: makes the inputs that are looked at.
    """
    if not writes or torch.device(run.device).type != "cuda" or run.dtype != run.weights:
        return None
    return within_memory(NAME, lambda: merge(adaptation, claims, probes()))


@contextmanager
def merged_where_proven(adaptation: Adaptation, check: Check | None, device: torch.device) -> Iterator[bool]:
    """For the block, plain layers in the places of the wrappers, where the run proved that outputs stay the same.

    On a GPU alone, where a token waits for each kernel that a wrapper adds. A small update that the cast of merged weights to a
    16-bit type loses is a difference too. Not where processes share the base's weights: merged, each would hold them whole.

    Args:
        check: what `merge` found, over weights in the type of the compute; None: it was not looked at.

    Yields:
        Whether they are.
    """
    proven = (
        check is not None
        and check.outcome == PASS
        and (check.figures or {}).get("cast", 0.0) <= MERGE_TOLERANCE
    )
    folded: dict[str, nn.Module] = {}
    if proven and device.type == "cuda" and not any_is_shared():
        with suppress(torch.OutOfMemoryError):  # it writes unmerged all the same
            folded = adaptation.folded()
    with adaptation.placed(folded):
        yield bool(folded)


def merge_in_half(adaptation: Adaptation, probe: Probe) -> Check | None:
    """The same where weights and compute are bfloat16, as a model serves: folded in float32, then cast. Leaves the model so.

    Returns:
        None where there is nothing to fold.
    """
    if not adaptation.mergeable or not adaptation.swaps:
        return None
    model = adaptation.model
    exactly = outputs(model, probe)
    with adaptation.without():
        exact = outputs(model, probe)
    folded = {name: layer.bfloat16() for name, layer in adaptation.folded().items()}
    adaptation.model.bfloat16()
    for layer, _ in adaptation.swaps.values():
        layer.bfloat16()
    try:
        trained = outputs(model, probe)
        with adaptation.without():
            base = outputs(model, probe)
        with adaptation.placed(folded):
            merged = outputs(model, probe)
    except RuntimeError as error:  # it keeps to float32
        return Check(NAME, NOT_TESTED, f"in bfloat16 it raises {error}"[:200])
    rounding = Rounding(distance(exact, base), float(base.norm()), " in bfloat16")
    return _verdict(trained, merged, distance(exactly, exact), rounding)


def _kept(adaptation: Adaptation) -> dict[str, Tensor]:
    """What folding must leave as it is: the layers under the wrappers, and what was trained."""
    under = {
        f"{name}.{inner}": tensor
        for name, (base, _) in adaptation.swaps.items()
        for inner, tensor in (*base.named_parameters(), *base.named_buffers())
    }
    return {**under, **adaptation.state()}


def _compare(
    adaptation: Adaptation,
    folds: dict[str, FoldOnCall],
    probe: Probe,
    autocast: AbstractContextManager[Any] | None = None,
) -> Check:
    model, rounding, where = adaptation.model, 0.0, ""
    try:
        if autocast is None:
            trained = outputs(model, probe)
            with adaptation.without():
                base = outputs(model, probe)
            with adaptation.placed(folds):
                merged = outputs(model, probe)
            change = distance(trained, base)
        else:
            exactly = outputs(model, probe)
            with adaptation.without():
                exact = outputs(model, probe)
            change = distance(exactly, exact)
            with autocast:
                trained = outputs(model, probe)
                with adaptation.without():
                    base = outputs(model, probe)
                with adaptation.placed(folds):
                    merged = outputs(model, probe)
            rounding, where = distance(exact, base), " in the type of the run"
        again = trained if autocast is not None else outputs(model, probe)
    except Exception as error:  # a plugin's fold() may raise anything; the run is good all the same
        if is_out_of_memory(error):
            raise
        return Check(NAME, FAIL, f"fold() raises {type(error).__name__}: {error}"[:200])
    if (back := distance(again, trained)) > LEAST_CHANGE * float(trained.norm()):
        said = (
            f"merged and unmerged again, outputs differ by {back / float(trained.norm()):.1e} of their norm"
        )
        return Check(NAME, FAIL, said)
    return _verdict(trained, merged, change, Rounding(rounding, float(base.norm()), where))


def _compare_layers(adaptation: Adaptation, folds: dict[str, FoldOnCall], probe: Probe) -> Check:
    """The same where the base's weights are no float32: layer by layer, on the inputs that each gets.

    The rounding of all layers after it would drown what one layer's merging is off by. Each computes in float32 for it, so that what
    merging is off by is told from what the cast of the merged weights adds.
    """
    layers = {
        name: Compared(folds[name], wrapper, base) for name, (base, wrapper) in adaptation.swaps.items()
    }
    try:
        with adaptation.placed(layers):
            outputs(adaptation.model, probe)
    except Exception as error:  # a plugin's fold() may raise anything; the run is good all the same
        if is_out_of_memory(error):
            raise
        return Check(NAME, FAIL, f"fold() raises {type(error).__name__}: {error}"[:200])
    norm, change, off, cast = (
        math.sqrt(sum(layer.squares[what] for layer in layers.values()))
        for what in ("base", "change", "merge", "cast")
    )
    if not change > LEAST_CHANGE * norm:
        return Check(NAME, NOT_TESTED, "training changed the layers' outputs by less than rounding does")
    figures = {"merge": off / change, "cast": cast / change}
    said = f"differs by {figures['merge']:.1e} of what the adapter changes, cast to the type of the weights by {figures['cast']:.1e}"
    return Check(NAME, PASS if figures["merge"] <= MERGE_TOLERANCE else FAIL, said, figures)


@dataclass(frozen=True)
class Rounding:
    """How exact the outputs are that are compared."""

    of_base: float  # what the type moves the base's own outputs by
    norm: float  # of the base's outputs
    where: str  # " in bfloat16"; empty in float32


def _verdict(trained: Tensor, merged: Tensor, change: float, rounding: Rounding) -> Check:
    """Whether merged outputs are the trained ones.

    Args:
        change: what the adapter changes of the outputs in float32: an update that is lost in another type is a difference.
    """
    if not change > max(LEAST_CHANGE * rounding.norm, ROUNDING * rounding.of_base):
        said = f"training changed the outputs by less than rounding does{rounding.where}"
        return Check(NAME, NOT_TESTED, said)
    apart = distance(merged, trained)
    agree = agreement(merged, trained)
    said = f"differs by {apart / change:.1e} of what the adapter changes, {agree:.1%} of predictions agree{rounding.where}"
    # Where the type rounds, as many predictions may turn as it turns by itself.
    agreed = agree >= AGREEMENT or rounding.of_base > 0
    good = apart <= MERGE_TOLERANCE * change + ROUNDING * rounding.of_base and agreed
    return Check(NAME, PASS if good else FAIL, said)
