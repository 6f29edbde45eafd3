"""Whether what an objective says of a loss in several places is one loss.

A step may be given its batch in parts, or its tokens a few at a time, and scoring gives items one by one: all of them must come to
`loss` of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..execution.parts import asked_in
from ..objectives.base import Objective, is_by_token

ROUNDING = 1e-4  # of a loss: sums in another order, in float32


def disagreement(
    objective: Objective, logits: Tensor, batch: dict[str, Tensor], predictions: Mapping[str, Any]
) -> str | None:
    """What does not agree, of some items' logits; None: all does.

    Args:
        logits: (items, labels) or (items, length, vocabulary).
        predictions: what `predict` gives for them.
    """
    loss = float(objective.loss(logits, batch))
    alone = [
        (objective.weight(of), float(objective.loss(logits[i : i + 1], of)))
        for i in range(len(logits))
        for of in [{name: values[i : i + 1] for name, values in batch.items()}]
    ]
    mean = sum(weight * its for weight, its in alone if weight) / max(1, sum(weight for weight, _ in alone))
    if not _same(mean, loss):
        return (
            f"loss() of {len(logits)} items is {loss:.6g}, and {mean:.6g} by their own losses and weight(): it must be their mean, or a "
            "batch in parts (--accumulate) trains something else"
        )
    if not is_by_token(objective):
        return None
    wanted = objective.wanted(batch["labels"].numpy())
    if wanted is None:
        return None
    if wanted.shape != tuple(logits.shape[:2]):
        return f"wanted() gives {wanted.shape} of logits {tuple(logits.shape)}; it must give a token, or -100, for each place"
    starts = np.arange(len(wanted)) * wanted.shape[1]
    asked = asked_in(wanted, starts, wanted.shape, torch.device("cpu"))
    losses = objective.token_losses(logits.flatten(0, 1)[asked.index], asked.tokens)
    if not _same(of_tokens := float(losses.mean()), loss):
        return f"loss() is {loss:.6g}, and the mean of token_losses() of what is wanted() {of_tokens:.6g}: a run trains the latter"
    nll, of_items = predictions["nll"], asked.means(losses).numpy()
    off = [i for i, (one, its) in enumerate(zip(nll, of_items, strict=True)) if not _same(one, its)]
    if off:
        return (
            f"predict() gives nll {nll[off[0]]:.6g} for an item, and the mean of its token_losses() is {of_items[off[0]]:.6g}: a run "
            "reports the latter"
        )
    return None


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING**2)
