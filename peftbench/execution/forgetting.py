"""What a language model forgets: its loss on a held-out text before and after it is trained on something else.

The texts are those of another task's test split, the loss is the mean negative log-likelihood a token, in nats. Before is the
model as its checkpoint gives it, without the method.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import NotSupported, UsageError
from ..models.load import Loaded
from ..models.output_layer import OutputLayer
from ..models.parted import inferring
from ..models.precision import DTYPES, frozen_in
from ..objectives.base import IGNORED, Objective, negative_log_likelihood
from ..plugins.build import build_task
from ..records.runs import Run
from . import batches
from .parts import CPU, asked_in, on_device

TEXTS = 50  # evenly spread over the split
TOKENS = 128  # of each text, its beginning
AT_ONCE = 10


@dataclass(frozen=True)
class HeldOut:
    """Tokens of texts that the model is not trained on."""

    encoded: batches.Encoded
    pad: dict[str, int]
    tokens: int  # that are predicted


def writes_on(objective: Objective, made_for: str) -> bool:
    """Whether a model made for this goes on as a language model in a task, so that it can forget text."""
    try:
        return objective.head_for(made_for) == "causal"
    except NotSupported:
        return False


def check_objective(objective: Objective, made_for: str) -> None:
    """Whether a model forgets text in this task.

    Raises:
        UsageError: it is no decoder that writes.
    """
    if not writes_on(objective, made_for):
        raise UsageError(
            "--forgetting is the loss of a language model on a text: it needs a decoder and a text generation task; leave it out"
        )


def check_text(spec: str) -> tuple[Any, str]:
    """The test split of a task and the column where its texts are.

    Raises:
        UsageError: there is no such task, or it has no texts.
    """
    task = build_task(spec)
    test, column = task.splits()["test"], task.objective.inputs[0]
    if column not in test.column_names:
        raise UsageError(f"--forgetting {spec}: its test split has no column {column!r} of texts")
    return test, column


def held_out(spec: str, tokenizer: Any) -> HeldOut:
    """The texts of a task's test split.

    Raises:
        UsageError: there is no such task, or it has no texts.
    """
    test, column = check_text(spec)
    texts = list(dict.fromkeys(test[column]))
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(TEXTS, len(texts))).round().astype(int)]
    ids = [row[:TOKENS] for row in tokenizer(chosen)["input_ids"]]
    ids = [row for row in ids if len(row) > 1]
    if not ids:
        raise UsageError(f"--forgetting {spec}: its texts are shorter than two tokens")
    ragged = batches.Ragged(np.concatenate(ids).astype(np.int64), np.cumsum([0, *map(len, ids)]))
    return HeldOut(
        batches.Encoded({"input_ids": ragged}, {}), batches.padding(tokenizer), sum(len(r) - 1 for r in ids)
    )


@inferring
def loss(model: nn.Module, output: OutputLayer, texts: HeldOut, accelerator: Any, dtype: str) -> float:
    """Mean negative log-likelihood a token, in nats."""
    model.eval()
    total = 0.0
    with frozen_in(model, DTYPES[dtype]):
        for items in batches.scoring_order(texts.encoded.lengths, AT_ONCE):
            batch = batches.collate(texts.encoded, items, texts.pad, CPU)
            ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
            wanted = np.full_like(ids, IGNORED)
            wanted[:, :-1] = np.where(mask[:, 1:] == 0, IGNORED, ids[:, 1:])
            asked = asked_in(wanted, np.arange(len(ids)) * ids.shape[1], ids.shape, accelerator.device)
            inputs = on_device(batch, accelerator.device)
            with accelerator.autocast():
                places = output.places(model, inputs, asked.index)
                total += float(places.losses(asked.tokens, negative_log_likelihood).sum())
    return total / texts.tokens


@dataclass(frozen=True)
class Before:
    """What the loss was before the method came."""

    texts: HeldOut
    nll: float
    accelerator: Any
    dtype: str

    def after(self, model: nn.Module, output: OutputLayer) -> dict[str, float]:
        """What the record says, of the trained model."""
        now = loss(model, output, self.texts, self.accelerator, self.dtype)
        return {"before_nll": self.nll, "after_nll": now, "tokens": self.texts.tokens}


def before(run: Run, loaded: Loaded, accelerator: Any) -> Before | None:
    """Look at the model as its checkpoint gives it; None where the run does not ask what is forgotten."""
    if run.forgetting is None:
        return None
    texts = held_out(run.forgetting, loaded.tokenizer)
    nll = loss(loaded.model.to(accelerator.device), loaded.output, texts, accelerator, run.dtype)
    loaded.model.to("cpu")  # where every method draws
    gc.collect()
    if accelerator.device.type == "cuda":  # the meters begin as if nothing had been there
        torch.cuda.empty_cache()
    return Before(texts, nll, accelerator, run.dtype)
