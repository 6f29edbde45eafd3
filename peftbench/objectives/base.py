"""What a task asks of a model: how items become tokens, what the loss is, how outputs become predictions and scores.

An objective knows nothing of where the data comes from; a task holds one. `splits()` of a task yields three
`datasets.Dataset` (train, validation, test) with the objective's columns, and optionally

- `group`: items of one group (a film, a passage) share something beyond the question and are resampled together in the
  statistics;
- `part`: every metric is also given for each part of the split by itself, as `accuracy (matched)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from .item_metrics import FORMULAS

if TYPE_CHECKING:
    import datasets
    from torch import Tensor

    Splits = dict[str, datasets.Dataset]

IGNORED = -100  # the label of a place that is left out of the loss, as the library has it
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Metric:
    """A figure of quality. Shares and correlations are stored as they are and shown times 100."""

    name: str
    higher_is_better: bool = True
    is_share: bool = True
    unit: str = "%"  # behind its name in a table


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy"),
        Metric("macro_f1"),
        Metric("f1"),
        Metric("matthews", unit="x100"),
        Metric("pearson", unit="x100"),
        Metric("spearman", unit="x100"),
        Metric("rmse", higher_is_better=False, is_share=False, unit=""),
    )
}


class Objective(Protocol):
    """What a task asks of a model."""

    @property
    def kind(self) -> str:
        """The head it needs: `classification`, `regression` or `generation`."""

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for an item."""

    @property
    def metric(self) -> Metric:
        """The primary metric."""

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        """Token ids and targets of some rows, unpadded; every list-valued column is padded later."""

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss over the items of a batch, or over the tokens that are to be written."""

    def weight(self, batch: dict[str, Tensor]) -> int:
        """How many items, or tokens, that is the mean of."""

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Per item: `prediction`, `reference`, `nll` (negative log-likelihood), and `score` where the primary metric is the
        mean of one number an item."""

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        """Every metric over a split, the primary one among them. Optional beside it: `subsets(predictions, references)`, a
        function from (items,) of truth values to the same for those alone, where `score` is dear."""


def check_metrics(names: tuple[str, ...]) -> None:
    if strange := [name for name in names if name not in FORMULAS]:
        raise ValueError(f"unknown metric {strange[0]!r}; known: {', '.join(FORMULAS)}")
    if not names:
        raise ValueError("a task needs a metric")
