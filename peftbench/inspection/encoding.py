"""Whether the items that an objective makes of rows are ones that a model may be given: one a row, cut, unpadded, the answer not in what is asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..execution.batches import READ, Encoded
from ..objectives.base import IGNORED, Objective, is_by_token

MOST = 0.5  # of the places or items: where more are wrong, it is no trait of some rows


def wrong_items(objective: Objective, split: Encoded, rows: int, tokenizer: Any, length: int) -> str | None:
    """What is wrong with some items; None: nothing that can be seen.

    Args:
        rows: that they were made of.
        length: tokens that an item may have.
    """
    if len(split) != rows:
        return f"encode() gives {len(split)} items of {rows} rows: it must give one a row, or methods on other models are scored on others"
    tokens = [split.lists[name] for name in READ if name in split.lists]
    if (longest := max(int(its.lengths.max()) for its in tokens)) > length:
        return f"encode() gives an item of {longest} tokens where it may have {length} (max_length): cut it"
    ids = tokens[0]
    ends = np.stack([ids.values[ids.offsets[:-1]], ids.values[ids.offsets[1:] - 1]])
    if padded := int(((ends == tokenizer.pad_token_id).any(0) & (ids.lengths > 1)).sum()):
        return f"encode() pads {padded} of {rows} items: leave padding out, the core pads each batch to its longest and counts real tokens"
    return _wrongly_asked(objective, split) if "labels" in split.lists and len(tokens) == 1 else None


def _wrongly_asked(objective: Objective, split: Encoded) -> str | None:
    """The same of what a decoder is asked for."""
    if not is_by_token(objective):
        return None
    everything = np.arange(len(split))
    labels, _ = split.lists["labels"].padded(everything, IGNORED, left=False)
    ids, _ = split.lists["input_ids"].padded(everything, IGNORED, left=False)
    wanted = objective.wanted(labels)
    if wanted is None or wanted.shape != ids.shape:
        return None  # what that comes to is said of its losses
    asked = wanted[:, :-1] != IGNORED
    if ((wanted[:, :-1] != ids[:, 1:]) & asked).sum() > MOST * asked.sum():
        return "at most places wanted() asks for another token than the text's next one: labels are shifted once, by wanted() itself"
    if "source_tokens" not in split.numbers:
        return None
    behind = np.arange(asked.shape[1]) >= split.numbers["source_tokens"][:, None] - 1
    if (shown := int((asked.any(1) & ~(asked & behind).any(1)).sum())) > MOST * len(split):
        return f"source_tokens of {shown} of {len(split)} items reach over all that is asked for: the model would be shown its answer"
    return None
