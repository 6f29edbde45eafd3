"""A text that completes another one: what is asked of a language model, and how what it writes is scored.

A decoder reads `source <end> target <end>`, the LoRA paper's layout for GPT-2, an encoder-decoder has the source in its
encoder. The loss is on the target and its end alone, the same for every method. Several rows of one split with the same
source are one item with several references: it is written once, and its negative log-likelihood is the mean over them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import NotSupported, PeftbenchError
from .base import IGNORED, SPLITS, check_length
from .by_token import ByToken, end_of, without_end
from .decoding import GREEDY, Decoding
from .metric import chosen
from .text_metrics import TEXT_METRICS, TextMetric

if TYPE_CHECKING:
    import pandas as pd

    from .base import Splits

# Of the tokens, however many are to be written: a target that is longer than the rest is cut.
LEAST_SOURCE = 0.5
LIKE_A_LABEL = 0.2  # of the items: a target that so many have is an answer to choose, not a text to write
CHECKED_ITEMS = 2000  # that a metric is held to its ends on: enough, and some are slow


@dataclass(frozen=True)
class Completion(ByToken):
    """One text for another. Columns: `source` and `target`, and optionally `group` and `part`."""

    # General ones of `text_metrics` by name, others as they are; the first is the primary one.
    metrics: tuple[str | TextMetric, ...] = ("rouge_l", "bleu")
    decoding: Decoding = GREEDY
    keeps: Literal["start", "end"] = "end"  # of a source that is too long
    # The token that an encoder-decoder's decoder begins with; None: a decoder alone.
    decoder_start: int | None = None

    def __post_init__(self) -> None:
        self.reported  # noqa: B018  checks the metrics

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("source",)

    @property
    def target(self) -> str:
        return "target"

    @property
    def texts(self) -> tuple[str, ...]:
        return "source", "target"

    @property
    def outputs(self) -> int:
        return 0

    @property
    def reported(self) -> tuple[TextMetric, ...]:
        return chosen(self.metrics, TEXT_METRICS)

    @property
    def metric(self) -> TextMetric:
        return self.reported[0]

    def unavailable(self) -> str | None:
        for metric in self.reported:
            if (reason := metric.unavailable()) is not None:
                return f"metric {metric.name} can't be had here: {reason}"
        return None

    def head_for(self, made_for: str) -> str:
        if made_for == "sequence":
            raise NotSupported("does not generate text; this task needs a decoder or an encoder-decoder")
        return made_for

    def with_decoder_start(self, token: int | None) -> Completion:
        return dataclasses.replace(self, decoder_start=token)

    @property
    def counted(self) -> dict[str, str]:
        side = "beginning" if self.keeps == "end" else "end"
        return {
            "cut": f"have a source that is too long and loses its {side}",
            "unended": "have a target that is too long and loses its end, so the model does not learn to stop there",
            "unwritten": "have a special token of the tokenizer in the target, which is never generated",
            "stopped": f"have a target of more than the {self.decoding.max_new_tokens} tokens (max_new_tokens) after which generation stops",
            "unread": "have a target mostly in letters that ROUGE ignores (all but Latin letters); chrf reads them",
        }

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        alone = self.decoder_start is None
        check_length(max_length, 4 if alone else 2, "source and target need a token each and their ends")
        end = end_of(tokenizer)
        sources = [without_end(ids, end) for ids in tokenizer(rows["source"])["input_ids"]]
        space = " " if alone else ""
        targets = tokenizer([space + text for text in rows["target"]], add_special_tokens=False)["input_ids"]
        special = set(tokenizer.all_special_ids)
        names = ["input_ids", "labels", "source_tokens" if alone else "decoder_input_ids", *self.counted]
        columns: dict[str, list[Any]] = {name: [] for name in names}
        most = self._source_room(max_length)
        columns["unread"] = [int(not all(m.reads(text) for m in self.reported)) for text in rows["target"]]
        for asked, wanted in zip(sources, targets, strict=True):
            source = self._cut([*asked, end], most)
            room = max_length - len(source) if alone else max_length
            target = [*wanted, end][:room]
            columns["cut"].append(int(len(source) <= len(asked)))
            columns["unended"].append(int(len(target) <= len(wanted)))
            columns["unwritten"].append(int(not special.isdisjoint(wanted)))
            columns["stopped"].append(int(len(wanted) > self.decoding.max_new_tokens))
            if self.decoder_start is None:
                columns["input_ids"].append([*source, *target])
                columns["labels"].append([IGNORED] * len(source) + target)
                columns["source_tokens"].append(len(source))
            else:
                columns["input_ids"].append(source)
                columns["labels"].append(target)
                columns["decoder_input_ids"].append([self.decoder_start, *target[:-1]])
        return columns

    def said_of_use(self, tokenizer: Any) -> list[str]:
        end = end_of(tokenizer)
        said = f"`{tokenizer.convert_ids_to_tokens(end)}` (token {end})"
        given = tokenizer("a")["input_ids"]
        adds = "" if given and given[-1] == end else ': `tokenizer(prompt)["input_ids"] + [' + str(end) + "]`"
        how = ", ".join(f"{name} {value:g}" for name, value in vars(self.decoding).items())
        return [
            f"A prompt ends with {said}{adds}. What it writes ends with the same token.",
            f"The scored texts were written without sampling, with {how}.",
        ]

    def _source_room(self, max_length: int) -> int:
        """Tokens that a source may have. What is asked must not depend on the target, which nobody has who asks."""
        if self.decoder_start is not None:
            return max_length
        return max(max_length - self.decoding.max_new_tokens, int(max_length * LEAST_SOURCE))

    def _cut(self, source: list[int], room: int) -> list[int]:
        """A source, its end included, in so many tokens."""
        if len(source) <= room:
            return source
        return [*source[: room - 1], source[-1]] if self.keeps == "start" else source[-room:]

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return self.subsets(predictions, references)(np.ones(len(predictions), bool))

    def subsets(
        self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]
    ) -> Callable[[npt.NDArray[np.bool_]], dict[str, float]]:
        """The metrics of any of some texts: each text is looked at once."""
        found = [
            (metric, metric.statistics(list(predictions), [list(its) for its in references]))
            for metric in self.reported
        ]
        return lambda kept: {metric.name: metric.value(rows[kept].sum(0)) for metric, rows in found}

    def aggregate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """One row a source: the targets of all its rows, and the mean of their likelihoods."""
        how: Any = {name: "first" for name in ("item", "group", "part") if name in rows}
        by_source = rows.rename(columns={"target": "reference"}).groupby("source", sort=False)
        frame = by_source.agg({**how, "nll": "mean", "reference": list}).reset_index()
        if "group" not in frame:
            frame["group"] = frame["source"]
        return frame

    def perfect(self, rows: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Of each of some sources the first target, and all of them."""
        by_source: dict[str, list[str]] = {}
        for source, target in zip(rows["source"], rows["target"], strict=True):
            by_source.setdefault(source, []).append(target)
        texts = list(by_source.values())
        where = np.linspace(0, len(texts) - 1, min(CHECKED_ITEMS, len(texts))).round().astype(int)
        first, references = np.empty(len(where), dtype=object), np.empty(len(where), dtype=object)
        first[:] = [texts[i][0] for i in where]
        references[:] = [texts[i] for i in where]
        return first, references

    def constant_score(self, references: npt.NDArray[Any]) -> float | None:
        texts, counts = np.unique([str(its[0]) for its in references], return_counts=True)
        if counts.max() < LIKE_A_LABEL * len(references):
            return None
        same = np.full(len(references), texts[counts.argmax()], dtype=object)
        return self.score(same, references)[self.metric.name]

    def check_rows(self, splits: Splits) -> str:
        for split in SPLITS:
            if blank := sum(not text.strip() for text in splits[split]["target"]):
                raise PeftbenchError(f"{blank:,} targets of its {split} split are empty")
        return ""
