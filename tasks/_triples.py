"""Triples (subject, relation, object) to a text that says them: what WebNLG and DART have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Completion, Decoding, TextMetric, UsageError
from peftbench.data.published import Published
from peftbench.data.splits import SHARES, hashes, split_rows
from peftbench.objectives.base import SPLITS
from peftbench.objectives.text_metrics import Floats, References, Texts, bleu, bleu_value

from ._published import datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

MOST_REFERENCES = 6


def _bleu_words(hypotheses: Texts, references: References) -> Floats:
    """BLEU's counts over lower-case text cut at every mark, against at most six references, as WebNLG is scored."""

    def cut(text: str) -> str:
        return " ".join(re.split(r"(\W)", text.lower()))

    kept = [[cut(one) for one in its[:MOST_REFERENCES]] for its in references]
    return bleu([cut(text) for text in hypotheses], kept, tokenize="none")


BLEU_WORDS = TextMetric("bleu_words", statistics=_bleu_words, value=bleu_value)
METRICS = (BLEU_WORDS, "chrf", "ter")


@dataclass(frozen=True)
class Triples:
    """One JSON document a split, as published. Beam search as in the LoRA paper's Table 11 and code."""

    cut_from: str | None = (
        None  # the one split that is at hand: all three are then cut off it, by their inputs
    )
    inputs: int = 0  # of the test split, evenly spread; 0: all
    beams: int = 10
    max_new_tokens: int = 64
    length_penalty: float = 0.8
    no_repeat_ngram: int = 4

    max_length: ClassVar[int] = 256
    folder: ClassVar[str]

    def __post_init__(self) -> None:
        if self.cut_from is not None and self.cut_from not in SPLITS:
            raise ValueError(f"cut_from must be one of {', '.join(SPLITS)}, not {self.cut_from!r}")
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    @property
    def objective(self) -> Completion:
        decoding = Decoding(self.beams, self.max_new_tokens, self.length_penalty, self.no_repeat_ngram)
        return Completion(METRICS, decoding)

    @property
    def published(self) -> tuple[str, ...]:
        return SPLITS if self.cut_from is None else (self.cut_from,)

    def fingerprint(self) -> str:
        return Published(self.folder).fingerprint(self.published)

    def notices(self) -> list[str]:
        if self.cut_from is None:
            return []
        return [
            f"all splits are cut off the published {self.cut_from} split: not comparable with published results"
        ]

    def splits(self) -> dict[str, datasets.Dataset]:
        documents = Published(self.folder).documents(self.published)
        tables = {split: self._table(split, document) for split, document in documents.items()}
        if self.cut_from is not None:
            rows = tables[self.cut_from]
            units = hashes(rows["source"].to_pylist(), 0)
            where = split_rows(units, np.zeros(rows.num_rows, np.int64), SHARES)
            tables = {split: rows.filter(pa.array(where[split])) for split in SPLITS}
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of({split: tables[split] for split in SPLITS})

    def rows(self, document: Any) -> Iterator[dict[str, str]]:
        """`source`, `target` and perhaps `part` of every text in a document."""
        raise NotImplementedError

    def _table(self, split: str, document: Any) -> pa.Table:
        try:
            rows = list(self.rows(document))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"--data-dir: {self.folder}/{split}.json is not laid out as published ({type(error).__name__}: {error})"
            ) from error
        if not rows:
            raise UsageError(f"--data-dir: {self.folder}/{split}.json holds no text")
        return pa.Table.from_pylist(rows)


def linear(triples: list[Any]) -> str:
    """`subject : relation : object | ...`, as the paper's code writes them."""
    return " | ".join(" : ".join(str(part) for part in triple) for triple in triples)
