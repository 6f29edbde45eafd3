"""What a few steps of training do not show of a method: its relations on weights moved far, in bfloat16, and where it is timed.

A clamp that never binds on small weights, a fold that holds in float32 alone, an update that is skipped while it is zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NotSupported
from ..execution import batches, prepare
from ..execution.fingerprints import some
from ..execution.inference import move
from ..execution.merging import LEAST_CHANGE, merge, merge_in_half
from ..execution.prepare import Prepared
from ..execution.probe import Probe, distance, long_probe, outputs
from ..execution.relations import TOLERANCE, causal, each_alone
from ..measure.arithmetic import count_flops
from ..measure.latency import random_inputs
from ..models.adaptation import Adaptation
from ..plugins.build import build_task
from ..records.record import FAIL, NOT_CLAIMED, NOT_TESTED, PASS, Check
from ..records.runs import Run
from .draws import Drawn

SPREAD = 0.3  # of the noise on what a method trains: updates as large as what they are added to
CELL = (4, 32)  # batch and length of a pass as it is timed
FLOPS_TOLERANCE = 1e-3
OTHERWISE_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
FROM_GOOD_TO_BAD = (NOT_CLAIMED, NOT_TESTED, PASS, FAIL)  # what is tested somewhere is tested


def worst(checks: Iterable[Check]) -> list[Check]:
    """Of checks of one name the one that came out worst, in the order of their names."""
    found: dict[str, Check] = {}
    for check in checks:
        known = found.get(check.name)
        if known is None or FROM_GOOD_TO_BAD.index(check.outcome) > FROM_GOOD_TO_BAD.index(known.outcome):
            found[check.name] = check
    return list(found.values())


def on_larger_weights(run: Run) -> list[Check]:
    """The checks of an untrained method with noise on all that it trains beside the base and the head.

    Raises:
        NotSupported: the method can't serve this model.
    """
    task = build_task(run.task)
    objective = prepare.objective_for(run, task)
    loaded = prepare.load_base(run, objective, run.device)
    pad = batches.padding(loaded.tokenizer)
    probe = long_probe(prepare.encode(run, task, loaded.tokenizer)["train"], pad, torch.device(run.device))
    base = outputs(loaded.model, probe)
    modules = list(loaded.model.modules())
    with Drawn() as drawn:
        prepared = prepare.inject(run, loaded, run.device)
    adaptation, model = prepared.adaptation, prepared.adaptation.model
    if adaptation.fit is not None:
        return []
    draws, start = _draws(prepared, drawn), outputs(model, probe)
    timed = _timed_items(prepared, pad, run)
    flops = _flops(prepared, timed)
    of_base = {id(p) for p in prepared.base}
    added = [p for p in adaptation.params.values() if id(p) not in of_base]
    move(added, SPREAD, seed=0)
    found: list[Check | None] = [_as_scored(prepared, timed, flops), *draws]
    if adaptation.settle is not None:
        adaptation.settle()
    found.append(_does_something(outputs(model, probe), start) if added else None)
    found.append(_taken_out(adaptation, probe, base) if prepared.claims.exact_base else None)
    found.append(_as_trained(model, modules, probe))
    found += [
        each_alone(adaptation, probe, outputs(model, probe)),
        causal(adaptation, probe),
        _as_written(run),
    ]
    if prepared.claims.mergeable:
        found.append(merge(adaptation, prepared.claims, [probe], torch.autocast("cpu", torch.bfloat16)))
        found.append(merge_in_half(adaptation, probe))
    return [
        dataclasses.replace(check, detail=f"with larger weights: {check.detail}")
        for check in found
        if check is not None
    ]


def _does_something(now: Tensor, start: Tensor) -> Check | None:
    """Whether outputs change with what a method adds, where it is scored and not trained."""
    if distance(now, start) > LEAST_CHANGE * float(start.norm()):
        return None
    said = "with other numbers in all that it adds, outputs stay the same: nothing of it works while the model is scored"
    return Check("all declared train", FAIL, said)


def _as_trained(model: nn.Module, modules: list[nn.Module], probe: Probe) -> Check | None:
    """Whether what a method adds to the base's `modules` computes in training what it computes where it is scored, drops and draws aside."""
    scored, known = outputs(model, probe), {id(module) for module in modules}
    own = [m for m in model.modules() if id(m) not in known and not isinstance(m, OTHERWISE_IN_TRAINING)]
    passes = []
    for seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for module in own:
                module.training = True
            passes.append(outputs(model, probe))
            for module in own:
                module.training = False
    norm = float(scored.norm())
    apart = distance(passes[0], scored)
    if apart <= TOLERANCE * norm or distance(*passes) > TOLERANCE * norm:
        return None
    said = f"what it adds gives other outputs in training mode than where the model is scored, by {apart / norm:.1e} of their norm"
    return Check("all declared train", FAIL, said)


def _as_written(run: Run) -> Check | None:
    """`causal` of the same model where it writes, and reads its past from a cache; None: it or the method does not serve for that."""
    try:
        loaded = prepare.load_base(run, None, run.device)
        if getattr(loaded.model, "get_output_embeddings", lambda: None)() is None:
            return None
        prepared = prepare.inject(run, loaded, run.device)
        adaptation, model = prepared.adaptation, prepared.adaptation.model
        timed = _timed_items(prepared, batches.padding(loaded.tokenizer), run)
        model.train()(**timed.batch([0]))
    except NotSupported:
        return None
    model.eval()
    of_base = {id(p) for p in prepared.base}
    move([p for p in adaptation.params.values() if id(p) not in of_base], SPREAD, seed=0)
    if adaptation.settle is not None:
        adaptation.settle()
    return causal(adaptation, timed)


def _taken_out(adaptation: Adaptation, probe: Probe, base: Tensor) -> Check | None:
    """Whether the model without the method gives what it gave before it came: the base that it is timed against."""
    with adaptation.without() as model:
        apart = distance(outputs(model, probe), base) / max(float(base.norm()), 1e-30)
    if apart <= TOLERANCE:
        return None
    said = f"with the method taken out, outputs differ from the base's by {apart:.1e} of their norm"
    return Check("base unchanged", FAIL, said)


def _draws(prepared: Prepared, drawn: Drawn) -> list[Check]:
    """Whether a method that draws says that a seed reaches it, and stores what it drew."""
    adaptation, found = prepared.adaptation, []
    names = drawn.of({**adaptation.params, **adaptation.frozen})
    if names and not prepared.claims.random_init:
        said = f"draws {some(names)} at random and does not claim random_init: no seed reaches it"
        found.append(Check("seed", FAIL, said))
    kept = {id(p) for p in (*prepared.base, *adaptation.params.values(), *prepared.head.values())}
    stored = {tensor.data_ptr() for tensor in adaptation.state().values()}
    model = adaptation.model
    beside = {
        name: tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if id(tensor) not in kept and tensor.data_ptr() not in stored
    }
    if lost := drawn.of(beside):
        found.append(Check("save and load", FAIL, f"{some(lost)} is drawn at random, and no file holds it"))
    return found


def _timed_items(prepared: Prepared, pad: dict[str, int], run: Run) -> Probe:
    """The tokens of a timed pass, and room for some padding."""
    batch, length = CELL
    ids = random_inputs(prepared.adaptation.model.config.vocab_size, batch, length, torch.device("cpu"))  # type: ignore[union-attr, arg-type]
    rows = batches.Ragged(ids["input_ids"].numpy().reshape(-1), np.arange(batch + 1) * length)
    items = batches.Encoded({"input_ids": rows}, {})
    return Probe(items, pad, torch.device(run.device), room=length + length // 4)


def _flops(prepared: Prepared, timed: Probe) -> int:
    """Of one pass, in operations."""
    with torch.no_grad():
        return count_flops(lambda: prepared.adaptation.model(**timed.batch(range(len(timed)))))


def _as_scored(prepared: Prepared, timed: Probe, at_start: int) -> Check:
    """Whether a timed pass is a scored one, and costs at the start what it costs once trained."""
    name = "timed as scored"
    moved = _flops(prepared, timed)
    if abs(moved - at_start) > FLOPS_TOLERANCE * moved:
        said = f"an untrained pass is {at_start / 1e6:.3g} MFLOP, one with other weights {moved / 1e6:.3g}"
        return Check(name, FAIL, said)
    adaptation = prepared.adaptation
    alone = each_alone(adaptation, timed, outputs(adaptation.model, timed))
    return dataclasses.replace(alone, name=name)
