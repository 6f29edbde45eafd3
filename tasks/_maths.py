"""Word problems that a model answers by writing: what the tasks of them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Completion, Decoding, TextMetric, UsageError
from peftbench.data.published import Published
from peftbench.objectives.text_metrics import mean, scores

from ._number import answer


def _same_number(text: str, references: list[str]) -> bool:
    """Whether a text answers with the number of one of its references."""
    said = answer(text)
    return said is not None and said in [answer(one) for one in references]


def _no_number(text: str, references: list[str]) -> bool:
    return answer(text) is None


EXACT_NUMBER = TextMetric("exact_number", unit="%", statistics=partial(scores, _same_number), value=mean)
UNPARSED = TextMetric(
    "unparsed",
    higher_is_better=False,
    unit="%",
    has_column=True,
    statistics=partial(scores, _no_number),
    value=mean,
)


@dataclass(frozen=True)
class Maths:
    """One text for each problem, scored by the number that it answers with; greedy, unless `beams` says otherwise."""

    inputs: int = 0  # of the test split, evenly spread; 0: all
    beams: int = 1
    max_new_tokens: int = 256

    metrics: ClassVar[tuple[str | TextMetric, ...]] = (EXACT_NUMBER, UNPARSED)

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    def notices(self) -> list[str]:
        return [
            "a text is scored by the number that it answers with (behind ####, in \\boxed{}, behind 'answer is', or else its last); one "
            + "without such a number is wrong and counts in unparsed"
        ]

    @property
    def objective(self) -> Completion:
        return Completion(self.metrics, Decoding(self.beams, self.max_new_tokens))


def refuse_unanswered(published: Published, split: str, texts: pa.ChunkedArray, column: str) -> None:
    """Whether there is an answer to compare with in every row of a split, behind the mark that GSM8K has.

    Args:
        texts: (rows,) of that column, as published.

    Raises:
        UsageError: a row has none.
    """
    lacking = [
        "####" not in text or answer(text) is None for part in texts.chunks for text in part.to_pylist()
    ]
    if not any(lacking):
        return
    file = published.files([split]).get(split)
    where = f"{published.hub}, {split}: the table" if file is None else f"data file {str(file)!r}"
    row = int(np.flatnonzero(lacking)[0])
    raise UsageError(
        f"{where}: row {row + 1}, column {column!r}: it ends in no answer, as in '#### 42' ({str(texts[row])[-40:]!r}); fix or remove "
        f"such rows (here {sum(lacking):,} of {len(lacking):,} rows)"
    )
