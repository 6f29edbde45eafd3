"""A text that completes another one: what is asked of a language model, and how what it writes is scored.

A decoder reads `source <end> target <end>`, the LoRA paper's layout for GPT-2, an encoder-decoder has the source in its
encoder. The loss is on the target and its end alone, the same for every method. Several rows of one split with the same
source are one item with several references: it is written once, and its negative log-likelihood is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .base import IGNORED, Metric
from .text_metrics import TEXT_METRICS

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SOURCE = 0.5  # of the tokens: a target that is longer than the rest is cut


@dataclass(frozen=True)
class Decoding:
    """How a text is written: greedily, or by the best of several beams."""

    beams: int = 1
    max_new_tokens: int = 64
    length_penalty: float = 1.0  # beams are ranked by log-likelihood / length^penalty
    no_repeat_ngram: int = 0  # n-grams of this length are written once at most; 0: all may repeat

    def __post_init__(self) -> None:
        if self.beams < 1 or self.max_new_tokens < 1 or self.no_repeat_ngram < 0:
            raise ValueError("beams and max_new_tokens must be 1 or more, no_repeat_ngram 0 or more")


@dataclass(frozen=True)
class Completion:
    """One text for another. Columns: `source` and `target`, and optionally `group` and `part`."""

    metrics: tuple[str, ...] = ("rouge_l", "bleu")  # of `text_metrics`; the first is the primary one
    decoding: Decoding = Decoding()
    keeps: Literal["start", "end"] = "end"  # of a source that is too long
    # The token that an encoder-decoder's decoder begins with; None: a decoder alone.
    decoder_start: int | None = None
    kind: str = "generation"

    @property
    def outputs(self) -> int:
        return 0

    @property
    def metric(self) -> Metric:
        found = TEXT_METRICS[self.metrics[0]]
        return Metric(found.name, found.higher_is_better, found.is_share, "x100" if found.is_share else "")

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        sources = [_without_end(ids, end) for ids in tokenizer(rows["source"])["input_ids"]]
        space = " " if self.decoder_start is None else ""
        targets = tokenizer([space + text for text in rows["target"]], add_special_tokens=False)["input_ids"]
        columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
        if self.decoder_start is None:
            columns["source_tokens"] = []
        else:
            columns["decoder_input_ids"] = []
        for source, target in zip(sources, targets, strict=True):
            source, target = [*source, end], [*target, end]
            if self.decoder_start is None:
                room = max(max_length - len(target), int(max_length * LEAST_SOURCE))
                source = self._cut(source, room)
                target = target[: max_length - len(source)]
                columns["input_ids"].append([*source, *target])
                columns["labels"].append([IGNORED] * len(source) + target)
                columns["source_tokens"].append(len(source))
            else:
                source = self._cut(source, max_length)
                target = target[:max_length]
                columns["input_ids"].append(source)
                columns["labels"].append(target)
                columns["decoder_input_ids"].append([self.decoder_start, *target[:-1]])
        return columns

    def _cut(self, source: list[int], room: int) -> list[int]:
        """A source, its end included, in so many tokens."""
        if len(source) <= room:
            return source
        return [*source[: room - 1], source[-1]] if self.keeps == "start" else source[-room:]

    def weight(self, batch: dict[str, Tensor]) -> int:
        """Tokens that the loss is the mean of."""
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        from torch.nn import functional

        predicted, wanted = self._aligned(logits, batch)
        counted = wanted != IGNORED
        return functional.cross_entropy(predicted[counted].float(), wanted[counted])

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Of each row: `nll`, the mean over the target's tokens."""
        from torch.nn import functional

        predicted, wanted = self._aligned(logits, batch)
        counted = wanted != IGNORED
        each = predicted.new_zeros(wanted.shape, dtype=predicted.float().dtype)
        each[counted] = functional.cross_entropy(
            predicted[counted].float(), wanted[counted], reduction="none"
        )
        return {"nll": (each.sum(1) / counted.sum(1)).cpu().numpy()}

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return self.subsets(predictions, references)(np.ones(len(predictions), bool))

    def subsets(
        self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]
    ) -> Callable[[npt.NDArray[np.bool_]], dict[str, float]]:
        """The metrics of any of some texts: each text is looked at once."""
        found = {
            name: TEXT_METRICS[name].statistics(list(predictions), [list(its) for its in references])
            for name in self.metrics
        }
        return lambda kept: {
            name: TEXT_METRICS[name].value(rows[kept].sum(0)) for name, rows in found.items()
        }

    def _aligned(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (batch, places, vocabulary) and the token (batch, places) that each place is to give."""
        if self.decoder_start is not None:
            return logits, batch["labels"]
        return logits[:, :-1], batch["labels"][:, 1:]


def _without_end(ids: list[int], end: int) -> list[int]:
    """Without the end that a tokenizer itself sets."""
    return ids[:-1] if ids and ids[-1] == end else ids
