"""Proof that a method did what it claims, taken in every run on a few of its items and by fingerprints of the weights.

    identity at init       outputs before training equal the base's, and injecting changed no base weight
    only declared moves    what the method did not declare is bitwise as it was, and no optimizer steps on it
    all declared train     every declared tensor had a gradient
    base unchanged         every base weight and buffer is bitwise as it was before the method came
    shared budget          passes, items, optimizer steps and rates are those that every method gets
    equal terms            the base trained in training mode, with its own dropout
    settings               nothing of the process that other runs share was changed
    items alone, causal    `relations`: outputs depend on their own item, and on its past alone in a causal model
    merge                  `merging`: |merged - unmerged| <= .05 |unmerged - base|, and predictions agree; the base fails this
    seed                   one seed repeats its initialisation, two seeds differ
    save and load          the saved file, loaded into an injection under another seed, gives the same outputs

No second copy of the weights is held: fingerprints stand for them, folded layers exist one at a time, and the trained
model is gone before the one that loads its file is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.adaptation import Adaptation
from ..plugins.contracts import Claims
from ..plugins.fence import FOREIGN
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check
from .before import Before
from .fingerprints import changed, fingerprints, some
from .hidden import Hidden
from .merging import AGREEMENT
from .prepare import Prepared
from .probe import Probe, agreement, distance, outputs
from .witness import Witness

IDENTITY_TOLERANCE = 1e-4  # of the outputs' norm: two orders of float32 sums through some dozens of layers
HALF_TOLERANCE = 2e-2  # the same where weights are half precision
RELOAD_TOLERANCE = 1e-3  # of what training changed
SETTLE_TOLERANCE = 1e-4  # of the outputs' norm
LEAST_STEPS = 4  # before a tensor without a gradient is one that never gets any: B trains first, then A


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

    undeclared: Mapping[str, int]  # of what the method did not declare, after it came
    init: Mapping[str, int]  # of what the method created or trains
    identity: Check
    outputs: Tensor  # of the short probe


@dataclass(frozen=True)
class Trained:
    """What is known of a run after its last step."""

    moved: list[str]  # that is not declared, or not as what it is
    settled: Tensor  # outputs for the long probe before anything was scored


@dataclass(frozen=True)
class Last:
    """What is kept of a trained model when it goes."""

    outputs: Tensor  # for the short probe
    hidden: list[str]  # what they depend on and no file holds
    changed: list[str]  # of the process, each time that it was put back


def at_start(prepared: Prepared, before: Before, probe: Probe) -> Start:
    """Before the first step: whether the adapted model is the base, and the bits that must stay."""
    adaptation, claims = prepared.adaptation, prepared.claims
    declared = {id(p) for p in (*adaptation.params.values(), *prepared.head.values())}
    # A base that must not change is compared with what it was before the method came; else with what it is now.
    rest: dict[str, Tensor] = {n: p for n, p in adaptation.model.named_parameters() if id(p) not in declared}
    if claims.exact_base:
        of_base = {id(p) for p in before.tensors.parameters.values()}
        rest = {n: p for n, p in rest.items() if id(p) not in of_base}
    undeclared = fingerprints(rest | {n: t for n, t in adaptation.frozen.items() if t.is_floating_point()})
    now = outputs(adaptation.model, probe)
    with adaptation.without():
        of_the_base = outputs(adaptation.model, probe)
    init = fingerprints({**adaptation.params, **adaptation.frozen})
    return Start(undeclared, init, _identity(claims, before, now, of_the_base), now)


def _identity(claims: Claims, before: Before, now: Tensor, of_the_base: Tensor) -> Check:
    name = "identity at init"
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in before.tensors.parameters.values())
    tolerance = HALF_TOLERANCE if half else IDENTITY_TOLERANCE
    apart = distance(now, of_the_base) / max(float(of_the_base.norm()), 1e-30)
    if not claims.identity_at_init:
        return Check(name, NOT_CLAIMED, f"outputs differ by {apart:.1e} of their norm")
    if not apart <= tolerance:
        return Check(name, FAIL, f"outputs differ from the base's by {apart:.1e} of their norm")
    if not claims.exact_base and (moved := changed(before.prints, before.tensors.prints())):
        return Check(name, FAIL, f"injecting changed {some(moved)}")
    return Check(name, PASS, "bitwise" if apart == 0 else f"within {apart:.1e}")


def settled(prepared: Prepared, before: Before, start: Start, witness: Witness, probe: Probe) -> Trained:
    """Settle what was trained, and look at what moved until then."""
    adaptation = prepared.adaptation
    declared = {id(p) for p in (*adaptation.params.values(), *prepared.head.values())}
    moved = [f"{name} trains" for name in _strange_heads(prepared, before)]
    present = {
        **{n: p for n, p in adaptation.model.named_parameters() if id(p) not in declared},
        **adaptation.frozen,
    }
    moved += [
        f"{name} moved"
        for name in changed(
            start.undeclared, fingerprints({n: t for n, t in present.items() if n in start.undeclared})
        )
    ]
    shown = (*before.tensors.now().values(), *adaptation.model.parameters(), *adaptation.model.buffers())
    hidden = Hidden(adaptation, before.known, shown).training()
    moved += [f"{name} asks for a gradient" for name in hidden]
    late = [n for n, p in adaptation.model.named_parameters() if p.requires_grad and id(p) not in declared]
    moved += [f"{name} came later and asks for a gradient" for name in late]
    if foreign := sum(id(p) not in declared for p in witness.others):
        moved.append(f"{foreign} tensors of an optimizer of its own train")
    trained = outputs(adaptation.model, probe)
    if adaptation.settle is not None:
        adaptation.settle()
        apart = distance(outputs(adaptation.model, probe), trained) / max(float(trained.norm()), 1e-30)
        if apart > (SETTLE_TOLERANCE if probe.autocast is None else HALF_TOLERANCE):
            moved.append(f"settling changes outputs by {apart:.1e} of their norm: numbers kept aside")
    return Trained(moved, outputs(adaptation.model, probe))


def _strange_heads(prepared: Prepared, before: Before) -> list[str]:
    """What is counted as the head and is neither the objective's nor of as many outputs."""
    return [
        f"{name}, counted as head,"
        for name, parameter in prepared.head.items()
        if id(parameter) not in before.head
        and (not before.outputs or parameter.shape[:1] != (before.outputs,))
    ]


def after_training(
    start: Start, trained: Trained, prepared: Prepared, before: Before, witness: Witness
) -> list[Check]:
    """After scoring: what moved, and on what terms it was trained."""
    adaptation, claims = prepared.adaptation, prepared.claims
    declared = {id(p) for p in (*adaptation.params.values(), *prepared.head.values())}
    moved = list(trained.moved)
    if claims.exact_base:
        off_base = changed(before.prints, before.tensors.prints())
        undeclared = {n for n, p in before.tensors.parameters.items() if id(p) not in declared}
        undeclared |= set(before.tensors.buffers)
        moved += [f"{name} moved" for name in off_base if name in undeclared]
        base = Check("base unchanged", FAIL, f"{some(off_base)} changed")
        if not off_base:
            base = Check("base unchanged", PASS, f"{len(before.prints)} tensors, bitwise")
    else:
        base = Check("base unchanged", NOT_CLAIMED)
    name = "only declared moves"
    only = Check(name, PASS, f"{len(declared)} tensors may")
    if moved:
        only = Check(name, FAIL, f"{some(moved)}; not among its params")
    return [
        only,
        _all_train(adaptation, witness),
        base,
        _budget(claims, adaptation, witness),
        _terms(witness),
    ]


def _all_train(adaptation: Adaptation, witness: Witness) -> Check:
    name = "all declared train"
    if adaptation.fit is not None:
        return Check(name, NOT_CLAIMED, "it is solved without steps")
    found = witness.untrained()
    own = [said for said in found if said.split()[0] not in witness.of_base]
    if not own:
        return Check(name, PASS, f"{len(found)} of the base's are out of reach" if found else "")
    if witness.counted.optimizer_steps < LEAST_STEPS:
        return Check(name, NOT_TESTED, f"fewer than {LEAST_STEPS} steps: {some(own)}")
    return Check(name, FAIL, some(own))


def _budget(claims: Claims, adaptation: Adaptation, witness: Witness) -> Check:
    name = "shared budget"
    if adaptation.fit is not None:
        return Check(name, NOT_CLAIMED, "it is solved without steps")
    departures = witness.counted.departures(witness.declared_factors)
    said = "; ".join(departures)
    if not claims.shared_budget:
        return Check(name, NOT_CLAIMED, said)
    return Check(name, FAIL, said) if departures else Check(name, PASS)


def _terms(witness: Witness) -> Check:
    broken = list(witness.terms.broken)
    if witness.adaptation.fit is not None:
        return Check("equal terms", NOT_CLAIMED, "it is solved without steps")
    return Check("equal terms", FAIL, some(broken)) if broken else Check("equal terms", PASS)


def left_alone(changed_settings: list[str]) -> Check:
    """Whether the process is as other runs found it.

    Args:
        changed_settings: what was put back, each time that it was; a library that is imported on the way may draw once from a
            generator that no run uses.
    """
    once = {name for name in FOREIGN if sum(said.startswith(name) for said in changed_settings) < 2}
    names = [said for said in dict.fromkeys(changed_settings) if not said.startswith(tuple(once))]
    return Check("settings", FAIL, f"changes {some(names)}") if names else Check("settings", PASS)


def all_stored(prepared: Prepared, before: Before, probe: Probe) -> list[str]:
    """Tensors that outputs depend on and that are neither stored nor the base's nor registered."""
    adaptation = prepared.adaptation
    shown = (
        *before.tensors.now().values(),
        *adaptation.model.parameters(),
        *adaptation.model.buffers(),
        *adaptation.state().values(),
        *prepared.head.values(),
    )
    return Hidden(adaptation, before.known, shown).mattering(lambda: outputs(adaptation.model, probe))


def seeding(
    prepared: Prepared, first: Mapping[str, int], again: Mapping[str, int], other: Mapping[str, int]
) -> Check:
    """Whether the seed, and nothing else, decides the initialisation; fingerprints of one seed twice, and of another."""
    claims, name = prepared.claims, "seed"
    if strange := changed(first, again):
        return Check(name, FAIL, f"the same seed gives another {some(strange)}")
    if claims.seedless and prepared.adaptation.fit is None:
        return Check(
            name,
            FAIL,
            "claims to be seedless, but trains in steps on items in an order that the seed decides",
        )
    if not claims.random_init:
        return Check(name, NOT_CLAIMED)
    if not changed(first, other):
        return Check(name, FAIL, "two seeds give one and the same initialisation")
    return Check(name, PASS, "one repeats, two differ")


def reloaded(last: Last, again: Tensor, start: Tensor) -> Check:
    """Outputs of the trained model, of the one that loaded its file, and of the model before training."""
    name, trained = "save and load", last.outputs
    if last.hidden:
        said = f"outputs depend on {some(last.hidden)}, which no parameter or buffer holds and no file stores"
        return Check(name, FAIL, said)
    apart = distance(again, trained)
    change = distance(trained, start)
    if apart == 0:
        return Check(name, PASS, "bitwise")
    said = f"outputs differ by {apart / max(change, 1e-30):.1e} of what training changed"
    good = apart <= RELOAD_TOLERANCE * change and agreement(again, trained) >= AGREEMENT
    return Check(name, PASS if good else FAIL, said)
