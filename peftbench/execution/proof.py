"""Proof that a method did what it claims, taken in every run on one probe batch and by fingerprints of the weights.

    identity at init       outputs before training equal the base's, and injecting changed no base weight
    only declared moves    what the method did not declare is bitwise as it was
    base unchanged         every base weight and buffer is bitwise as it was before the method came
    merge                  |merged - unmerged| <= .05 |unmerged - base|, and predictions agree; the base fails this
    save and load          the saved file, loaded into an injection under another seed, gives the same outputs
    seed                   one seed repeats its initialisation, two seeds differ

No second copy of the weights is held: fingerprints stand for them, folded layers exist one at a time, and the trained
model is gone before the one that loads its file is made.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.adaptation import Adaptation, Batch
from ..plugins.contracts import Claims
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check

IDENTITY_TOLERANCE = 1e-4  # of the outputs' norm: two orders of float32 sums through some dozens of layers
HALF_TOLERANCE = 2e-2  # the same where weights are half precision
MERGE_TOLERANCE = 0.05  # of what the adapter changes
AGREEMENT = 0.995  # share of equal predictions
RELOAD_TOLERANCE = 1e-3  # of what training changed
LEAST_CHANGE = 1e-6  # of the outputs' norm: below it, what the adapter changes drowns in rounding
CHUNK = 1 << 20  # numbers of one step of a fingerprint: 8 MB of scratch
PROBE_ITEMS = 8


# Of each: eight long texts put through a language model twice would be most of a run's start on a CPU.
PROBE_TOKENS = 25


@dataclass(frozen=True)
class Checked:
    """One check of one method on one family of models, or of one task."""

    subject: str  # the SPEC
    family: str
    name: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Start:
    """What is known of a run before its first step."""

    base: Mapping[str, int]  # fingerprints before the method came
    undeclared: Mapping[str, int]  # of what the method did not declare, after it came
    init: Mapping[str, int]  # of what the method created or trains
    identity: Check
    outputs: Tensor  # of the probe batch: (items, outputs)


class Tensors:
    """The parameters and buffers of a model before a method comes, found again after it moved them about."""

    def __init__(self, model: nn.Module, without: Iterable[Tensor]) -> None:
        skipped = {id(tensor) for tensor in without}
        self.parameters = {n: p for n, p in model.named_parameters() if id(p) not in skipped}
        # A buffer is another tensor on another device, so it is asked for at its module.
        self.buffers = {
            f"{prefix}.{name}": (module, name)
            for prefix, module in model.named_modules()
            for name in module._buffers
        }

    def now(self) -> dict[str, Tensor]:
        """The tensors by name."""
        found: dict[str, Tensor] = dict(self.parameters)
        for place, (module, name) in self.buffers.items():
            buffer = module._buffers.get(name)
            if buffer is not None:
                found[place] = buffer
        return found


def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """A 64-bit number for the exact bits of each tensor, computed where it lies: the same on every device.

    Each 32-bit word is multiplied by an odd number of its own and the products are summed modulo 2^64, so a change of
    any one word always shows, and one of several is missed with a chance of about 2^-63.
    """
    found = {}
    for name, tensor in tensors.items():
        factors = _factors(tensor.device)
        total = len(tensor.shape)
        for part in _words(tensor).split(CHUNK):
            summed = int((part.long() * factors[: len(part)]).sum())
            total = (total * 6364136223846793005 + summed) % 2**64
        found[name] = total
    return found


@functools.cache
def _factors(device: torch.device) -> Tensor:
    """An odd number for each word of a chunk."""
    drawn = torch.randint(-(2**62), 2**62, (CHUNK,), generator=torch.Generator().manual_seed(0))
    return (drawn * 2 + 1).to(device)


def _words(tensor: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers, flat."""
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.dtype == torch.bool:
        return flat.to(torch.int8)
    if flat.is_floating_point():
        sizes = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
        return flat.view(sizes[flat.element_size()])
    return flat.view(torch.int32) if flat.element_size() == 8 else flat


def changed(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The names whose tensor is another now, or gone."""
    return [name for name, value in before.items() if after.get(name) != value]


@torch.inference_mode()
def outputs(model: nn.Module, probe: Batch) -> Tensor:
    """Outputs on the probe batch, in evaluation mode and without autocast: (items, outputs), float32."""
    return model(**probe).logits.detach().float().cpu().clone()  # type: ignore[no-any-return]


def at_start(
    adaptation: Adaptation,
    claims: Claims,
    head: Mapping[str, nn.Parameter],
    tensors: Tensors,
    base: Mapping[str, int],
    probe: Batch,
) -> Start:
    """Before the first step: whether the adapted model is the base, and the bits that must stay."""
    declared = {id(p) for p in (*adaptation.params.values(), *head.values())}
    # A base that must not change is compared with what it was before the method came; else with what it is now.
    rest = {n: p for n, p in adaptation.model.named_parameters() if id(p) not in declared}
    if claims.exact_base:
        of_base = {id(p) for p in tensors.parameters.values()}
        rest = {n: p for n, p in rest.items() if id(p) not in of_base}
    undeclared = fingerprints(rest)
    now = outputs(adaptation.model, probe)
    with adaptation.without():
        of_the_base = outputs(adaptation.model, probe)
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in tensors.parameters.values())
    tolerance = HALF_TOLERANCE if half else IDENTITY_TOLERANCE
    distance = _distance(now, of_the_base) / max(float(of_the_base.norm()), 1e-30)
    if not claims.identity_at_init:
        identity = Check("identity at init", NOT_CLAIMED, f"outputs differ by {distance:.1e} of their norm")
    elif not distance <= tolerance:
        identity = Check(
            "identity at init", FAIL, f"outputs differ from the base's by {distance:.1e} of their norm"
        )
    elif not claims.exact_base and (moved := changed(base, fingerprints(tensors.now()))):
        identity = Check("identity at init", FAIL, f"injecting changed {_some(moved)}")
    else:
        identity = Check("identity at init", PASS, "bitwise" if distance == 0 else f"within {distance:.1e}")
    init = fingerprints({**adaptation.params, **adaptation.frozen})
    return Start(base, undeclared, init, identity, now)


def after_training(
    start: Start,
    adaptation: Adaptation,
    claims: Claims,
    head: Mapping[str, nn.Parameter],
    tensors: Tensors,
    probe: Batch,
) -> tuple[list[Check], Tensor]:
    """After the last step and settling: what moved, and what merging changes. Also the trained model's outputs."""
    model = adaptation.model
    declared = {id(p) for p in (*adaptation.params.values(), *head.values())}
    rest = {n: p for n, p in model.named_parameters() if id(p) not in declared}
    moved = changed(start.undeclared, fingerprints({n: p for n, p in rest.items() if n in start.undeclared}))
    checks = []
    if claims.exact_base:
        off_base = changed(start.base, fingerprints(tensors.now()))
        checks.append(
            Check("base unchanged", FAIL, f"{_some(off_base)} changed")
            if off_base
            else Check("base unchanged", PASS, f"{len(start.base)} tensors, bitwise")
        )
        undeclared = {n for n, p in tensors.parameters.items() if id(p) not in declared} | set(
            tensors.buffers
        )
        moved += [name for name in off_base if name in undeclared]
    else:
        checks.append(Check("base unchanged", NOT_CLAIMED))
    checks.insert(
        0,
        Check("only declared moves", FAIL, f"{_some(moved)} moved and is not among its params")
        if moved
        else Check("only declared moves", PASS, f"{len(declared)} tensors may"),
    )
    trained = outputs(model, probe)
    checks.append(_merge(adaptation, claims, probe, trained))
    return checks, trained


class FoldOnCall(nn.Module):
    """Folds a wrapper anew for each call, so that no second copy of all folded weights is ever held."""

    def __init__(self, wrapper: nn.Module) -> None:
        super().__init__()
        self.wrapper = wrapper
        self.__dict__["weight"] = getattr(wrapper, "weight", None)  # T5 reads its type

    def forward(self, x: Tensor) -> Tensor:
        folded: Tensor = self.wrapper.fold()(x)  # type: ignore[operator]
        return folded


def _merge(adaptation: Adaptation, claims: Claims, probe: Batch, trained: Tensor) -> Check:
    """Protocol: relative to what the adapter changes, so that an adapter that is too small to see does not pass."""
    name = "merge"
    if not claims.mergeable:
        return Check(name, NOT_CLAIMED)
    if not adaptation.mergeable:
        return Check(name, FAIL, "claims to merge, but not every change is a wrapper with fold()")
    if not adaptation.swaps:
        return Check(name, PASS, "nothing to fold: it is the model's own layers")
    with adaptation.without():
        base = outputs(adaptation.model, probe)
    try:
        with adaptation.placed({n: FoldOnCall(wrapper) for n, (_, wrapper) in adaptation.swaps.items()}):
            merged = outputs(adaptation.model, probe)
    except Exception as error:  # noqa: BLE001  a plugin's fold() may raise anything; the run is good all the same
        return Check(name, FAIL, f"fold() raises {type(error).__name__}: {error}"[:200])
    change = _distance(trained, base)
    if not change > LEAST_CHANGE * float(base.norm()):
        return Check(name, NOT_TESTED, "training changed the outputs by less than rounding does")
    share = _distance(merged, trained) / change
    agree = _agreement(merged, trained)
    said = f"differs by {share:.1e} of what the adapter changes, {agree:.1%} of predictions agree"
    return Check(name, PASS if share <= MERGE_TOLERANCE and agree >= AGREEMENT else FAIL, said)


def seeding(
    claims: Claims, first: Mapping[str, int], again: Mapping[str, int], other: Mapping[str, int]
) -> Check:
    """Whether the seed, and nothing else, decides the initialisation; fingerprints of one seed twice, and of another."""
    if strange := changed(first, again):
        return Check("seed", FAIL, f"the same seed gives another {_some(strange)}")
    if not claims.random_init:
        return Check("seed", NOT_CLAIMED)
    if not changed(first, other):
        return Check("seed", FAIL, "two seeds give one and the same initialisation")
    return Check("seed", PASS, "one repeats, two differ")


def reloaded(trained: Tensor, again: Tensor, start: Tensor) -> Check:
    """Outputs of the trained model, of the one that loaded its file, and of the model before training."""
    distance = _distance(again, trained)
    change = _distance(trained, start)
    if distance == 0:
        return Check("save and load", PASS, "bitwise")
    said = f"outputs differ by {distance / max(change, 1e-30):.1e} of what training changed"
    good = distance <= RELOAD_TOLERANCE * change and _agreement(again, trained) >= AGREEMENT
    return Check("save and load", PASS if good else FAIL, said)


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return float("inf")
    return float((one - other).norm())


def _agreement(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return 0.0
    if one.shape[-1] < 2:  # a regression predicts no class
        return 1.0
    return float((one.argmax(-1) == other.argmax(-1)).float().mean())


def _some(names: list[str]) -> str:
    """The first names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
