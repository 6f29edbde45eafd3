"""What a prediction must not depend on: the other items, the padding, what was scored before, the other texts of a packed row, and a
causal model's future.

Held to rounding, and to what the base model itself does where its own operations differ from batch to batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NotSupported, PeftbenchError, UsageError
from ..models.adaptation import Adaptation, Batch
from ..models.parted import inferring
from ..objectives.base import Objective, is_by_token
from ..records.record import FAIL, NOT_TESTED, PASS, Check
from . import ranks
from .forgetting import writes_on
from .packing import ONE_ROW, lay_out_packed, packed
from .parts import on_device
from .prepare import Prepared
from .probe import Probe, distance, outputs

LEAST_PLACES = 4  # of an item that is changed in its second half
TOLERANCE = 1e-4  # of the outputs' norm
OF_THE_BASE = (
    4.0  # times what the base's own outputs differ by: routing and batch-wise kernels are not the method's
)
TOLD_OF_THE_BASE = 0.01  # of the norm: more than any rounding
MOST_OF_THE_BASE = 0.1  # of the norm: a base whose cache changes more tells nothing of a method's
OF_BASE = "of_base"  # in a check's figures: what the base's own outputs differ by, of their norm
STEPS = 2  # tokens that are read one by one
TOLERANCE_HALF = 2e-2  # of a base in half precision, where a batch of another shape may take another kernel
NOISE = 0.3  # on what a method adds: much of it is zero at the start, and would hide a leak


def each_alone(adaptation: Adaptation, probe: Probe, earlier: Tensor) -> Check:
    """Items one by one, in another order with more padding, and after others were scored.

    Args:
        earlier: outputs for the probe as one batch, from before the run was scored.
    """
    name = "items alone"
    whole = outputs(adaptation.model, probe)
    norm = max(float(whole.norm()), 1e-30)
    if (drift := distance(whole, earlier) / norm) > TOLERANCE:
        return Check(
            name, FAIL, f"outputs for the same items moved by {drift:.1e} of their norm while scoring"
        )
    apart = _apart(adaptation.model, probe, whole)
    worst = max(apart, key=lambda way: apart[way])
    if not apart[worst] > _tolerance(probe):
        return Check(name, PASS, f"within {apart[worst]:.1e}")
    with adaptation.without():
        of_base = _apart(adaptation.model, probe, outputs(adaptation.model, probe))[worst]
    if apart[worst] <= OF_THE_BASE * of_base:
        return Check(
            name, PASS, f"within {apart[worst]:.1e}, the base within {of_base:.1e}", {OF_BASE: of_base}
        )
    return Check(name, FAIL, f"outputs differ by {apart[worst]:.1e} of their norm where items come {worst}")


def _tolerance(probe: Probe) -> float:
    """Of outputs that should be equal, as a share of their norm."""
    return TOLERANCE if probe.autocast is None else TOLERANCE_HALF


def of_the_base(found: Iterable[Check]) -> list[str]:
    """What a reader should know of a model that does not score an item by itself, whatever method is in it."""
    shares = [check.figures[OF_BASE] for check in found if check.figures and OF_BASE in check.figures]
    return [
        f"the model's own outputs for an item depend on its padding and on the items beside it, by {share:.0%} of their norm: so does every score"
        for share in shares
        if share > TOLD_OF_THE_BASE
    ]


def _apart(model: nn.Module, probe: Probe, whole: Tensor) -> dict[str, float]:
    """By way of scoring, what outputs differ by from those of one batch, as a share of their norm."""
    norm = max(float(whole.norm()), 1e-30)
    count = len(probe)
    single = [outputs(model, probe, [row]) for row in range(count)]
    singly = torch.cat(single)
    padded = torch.cat([outputs(model, probe, [row], padded=True) for row in range(count)])
    order = list(reversed(range(count)))
    sizes = [len(single[row]) for row in order]
    turned = torch.cat(list(reversed(outputs(model, probe, order).split(sizes))))
    return {
        "one by one": distance(singly, whole) / norm,
        "with more padding": distance(padded, whole) / norm,
        "in another order": distance(turned, whole) / norm,
    }


def causal(adaptation: Adaptation, probe: Probe) -> Check | None:
    """Of a model whose base does not see the future, whether its states before changed tokens stay; None: another model."""
    name = "causal"
    with adaptation.without():
        of_base = ranks.agreed(_leak(adaptation.model, probe))
    if of_base is None or of_base > TOLERANCE:
        return None
    leak = ranks.agreed(_leak(adaptation.model, probe))
    if leak is None:
        return Check(name, NOT_TESTED, "its states can't be read")
    said = f"outputs before changed tokens move by {leak:.1e} of their norm"
    if leak > TOLERANCE:
        return Check(name, FAIL, said)
    return _misread(adaptation, probe) or Check(name, PASS, said)


def _misread(adaptation: Adaptation, probe: Probe) -> Check | None:
    """A failure, where a model that writes does not read its past from the cache as it reads it from tokens."""
    with adaptation.without(), probe.computing():
        try:
            of_base = ranks.agreed(_in_steps(adaptation.model, probe))
        except Exception:  # noqa: BLE001  a base without such a cache: recurrent ones have another
            return None
    if of_base is None or of_base > MOST_OF_THE_BASE:
        return None
    with probe.computing():
        apart = ranks.agreed(_in_steps(adaptation.model, probe))
    if apart is None or apart <= max(_tolerance(probe), OF_THE_BASE * of_base):
        return None
    said = (
        f"written token by token, outputs differ by {apart:.1e} of their norm from those for the whole text"
    )
    return Check("causal", FAIL, said)


@inferring
def _in_steps(model: Any, probe: Probe) -> float | None:
    """What outputs for the last tokens of a text differ by where they come one by one, as a share of their norm; None: it does not write."""
    row = max(range(len(probe)), key=probe.places)
    batch = probe.batch([row])
    tokens = batch[probe.answered]
    first = tokens.shape[1] - STEPS
    if first < 1 or getattr(model, "get_output_embeddings", lambda: None)() is None:
        return None
    whole, cache, steps = model(**batch).logits[:, first - 1 :], None, []
    for start, end in ((0, first), *((place, place + 1) for place in range(first, first + STEPS))):
        given = {**batch, probe.answered: tokens[:, start:end]}
        if probe.answered == "input_ids":
            given["attention_mask"] = batch["attention_mask"][:, :end]
        out = model(**given, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        steps.append(out.logits[:, -1:])
    whole = whole.float()
    return distance(torch.cat(steps, 1).float(), whole) / max(float(whole.norm()), 1e-30)


def check_packable(objective: Objective, made_for: str) -> None:
    """Whether texts can be packed in a task.

    Raises:
        UsageError: it is no decoder that writes, or the loss takes whole texts.
    """
    if not writes_on(objective, made_for):
        raise UsageError(
            "--packing lays the texts of a decoder that writes end to end: it needs a decoder and a text generation task; leave it out"
        )
    if not is_by_token(objective):
        raise UsageError(
            "--packing needs a loss by token, and this task's objective has a loss of its own over whole texts; leave it out"
        )


def check_packing(prepared: Prepared, probe: Probe, room: int) -> None:
    """Whether texts that are packed into rows have the outputs that they have alone, with larger numbers in what the method adds.

    Args:
        room: tokens of a packed row of the run.

    Raises:
        NotSupported: they have others.
    """
    adaptation = prepared.adaptation
    with adaptation.without():
        of_base = ranks.agreed(_packed_apart(adaptation.model, probe, room))
    if not of_base <= _tolerance(probe):
        raise NotSupported(f"--packing: this model {_leaks(of_base)}")
    of_the_base = {id(p) for p in prepared.base}
    with _larger([p for p in adaptation.params.values() if id(p) not in of_the_base]):
        apart = ranks.agreed(_packed_apart(adaptation.model, probe, room))
    # In half precision the base's own may happen to be none, or as large as is let through.
    half = max(TOLERANCE_HALF, 2 * of_base)
    if not apart <= (max(TOLERANCE, OF_THE_BASE * of_base) if probe.autocast is None else half):
        raise NotSupported(f"--packing: with this method the model {_leaks(apart)}")


def _leaks(apart: float) -> str:
    return (
        f"does not keep the texts of a packed row apart: outputs differ by {apart:.1e} of their norm from those of the texts alone; "
        "leave --packing out"
    )


@inferring
def _packed_apart(model: Any, probe: Probe, room: int) -> float:
    """What outputs of a probe's texts in packed rows differ by from those of the texts alone, as a share of their norm."""
    tokens, device = probe.items.lists["input_ids"], probe.device
    lengths, alone = tokens.lengths, outputs(model, probe)
    if room != ONE_ROW:  # two rows or more, and padding
        room = max(int(lengths.max()), int(lengths.sum()) // 2)
    layout = lay_out_packed(lengths, room)
    inputs = packed(tokens, np.arange(len(probe)), layout)
    index = np.concatenate([start + np.arange(*probe.kept(row)) for row, start in enumerate(layout.starts)])
    try:
        with probe.computing():
            places = probe.output.places(model, on_device(inputs, device), torch.from_numpy(index).to(device))
            together = places.logits().float().cpu()
    except PeftbenchError:
        raise
    except TypeError as error:  # a model whose places can't be said
        raise NotSupported(
            f"--packing: this model takes no positions; leave --packing out ({error})"
        ) from error
    return distance(together, alone) / max(float(alone.norm()), 1e-30)


@contextmanager
def _larger(parameters: list[nn.Parameter]) -> Iterator[None]:
    """For the block, noise on some parameters; then they are back, bitwise."""
    generator, kept = torch.Generator().manual_seed(0), [p.detach().clone() for p in parameters]
    for p in parameters:
        p.data += NOISE * torch.randn(p.shape, generator=generator).to(p)
    try:
        yield
    finally:
        for p, before in zip(parameters, kept, strict=True):
            p.data.copy_(before)


def _leak(model: nn.Module, probe: Probe) -> float | None:
    """What changing the last half of each item changes in the states of the first half, as a share of their norm."""
    rows = [row for row in range(len(probe)) if probe.places(row) >= LEAST_PLACES]
    if not rows:
        return None
    batch = probe.batch(rows)
    tokens = batch[probe.answered]
    changed = tokens.clone()
    halves = [probe.places(row) // 2 for row in rows]
    for at, (row, half) in enumerate(zip(rows, halves, strict=True)):
        for place in range(half, probe.places(row) - 1):  # some models ask for an end token
            others = [t for t in tokens[at, :half].tolist() if t != int(tokens[at, place])]
            if others:
                changed[at, place] = others[place % len(others)]
    with probe.computing():
        one, other = (_states(model, {**batch, probe.answered: ids}) for ids in (tokens, changed))
    if one is None or other is None or bool((tokens == changed).all()):
        return None
    before = [(one[at, :half], other[at, :half]) for at, half in enumerate(halves)]
    moved = float(torch.cat([(a - b).flatten() for a, b in before]).norm())
    return moved / max(float(torch.cat([a.flatten() for a, _ in before]).norm()), 1e-30)


@inferring
def _states(model: nn.Module, batch: Batch) -> Tensor | None:
    """The last hidden states of a pass, (batch, length, width)."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        states = getattr(out, "last_hidden_state", None)
        if isinstance(states, Tensor):
            seen.append(states.detach())

    backbone: Any = getattr(model, "base_model", model)
    handle = backbone.register_forward_hook(keep)
    try:
        logits = model(**batch).logits.detach()
    finally:
        handle.remove()
    if seen:
        return seen[-1].float()
    return logits.float() if logits.ndim > 2 else None
