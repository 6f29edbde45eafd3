"""Items of several options as rows, one an option: each is scored by itself behind the item's question."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..objectives.base import IGNORED
from .batches import Encoded, IntArray, Ragged

OF_TOKENS = "option_ids"  # of `OF_OPTIONS`, the one that has several numbers an option


def row_an_option(split: Encoded) -> Encoded:
    """One row for each option of each item, in order: the item's question and the option's tokens, which are asked for.

    An encoder-decoder reads the question in its encoder, and the option in its decoder behind the token that every item's begins with.
    """
    rows, lengths = split.lists["input_ids"], split.of_options["option_tokens"]
    asked = split.numbers.get("source_tokens")
    item_of = np.repeat(np.arange(len(split)), lengths.lengths)
    options = Ragged(
        split.of_options[OF_TOKENS].values, np.concatenate([[0], np.cumsum(lengths.values, dtype=np.int64)])
    )
    if asked is None:
        starts = split.lists["decoder_input_ids"]
        first = starts.values[starts.offsets[:-1]][item_of]
        given = [
            np.concatenate([[start], its[:-1]])
            for start, its in zip(first, _each(options, len(item_of)), strict=True)
        ]
        return Encoded(
            {"input_ids": rows.some(item_of), "labels": options, "decoder_input_ids": _ragged(given)}, {}
        )
    texts, labels = [], []
    for item, option in zip(item_of, _each(options, len(item_of)), strict=True):
        question = rows.values[rows.offsets[item] : rows.offsets[item] + asked[item]]
        texts.append(np.concatenate([question, option]))
        labels.append(np.concatenate([np.full(len(question), IGNORED), option]))
    return Encoded(
        {"input_ids": _ragged(texts), "labels": _ragged(labels)}, {"source_tokens": asked[item_of]}
    )


def by_item(
    split: Encoded, of_rows: npt.NDArray[np.float64]
) -> tuple[list[npt.NDArray[np.float64]], dict[str, list[npt.NDArray[Any]]]]:
    """What is told of each such row, and what is known of each option, item by item.

    Args:
        of_rows: (rows,), in the order of `row_an_option`.

    Returns:
        Of each item (options,); and the same of each of `OF_OPTIONS` with one number an option, by its name.
    """
    ends = split.of_options["option_tokens"].offsets[1:-1]
    known = {name: its for name, its in split.of_options.items() if name != OF_TOKENS}
    return np.split(of_rows, ends), {name: np.split(its.values, ends) for name, its in known.items()}


def _each(rows: Ragged, count: int) -> list[npt.NDArray[Any]]:
    return [rows.values[rows.offsets[i] : rows.offsets[i + 1]] for i in range(count)]


def _ragged(rows: list[npt.NDArray[Any]]) -> Ragged:
    ends: IntArray = np.cumsum([0, *map(len, rows)])
    return Ragged(np.concatenate(rows), ends)
