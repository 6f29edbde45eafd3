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


@dataclass(frozen=True)
class Classification:
    """One label an item, from one text or a pair. Columns: `text`, optionally `text_pair`, and `label` (an index)."""

    labels: tuple[str, ...]
    metrics: tuple[str, ...] = (
        "accuracy",
        "macro_f1",
    )  # names in `item_metrics`; the first is the primary one
    kind: str = "classification"

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"classification needs two labels or more, not {list(self.labels)}")
        _check_metrics(self.metrics)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @property
    def metric(self) -> Metric:
        return METRICS[self.metrics[0]]

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        return {**_tokens(tokenizer, rows, max_length), "labels": rows["label"]}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), batch["labels"])

    def weight(self, batch: dict[str, Tensor]) -> int:
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        log_probabilities = logits.float().log_softmax(-1)
        labels = batch["labels"]
        predicted = log_probabilities.argmax(-1)
        found = {
            "prediction": predicted.cpu().numpy(),
            "reference": labels.cpu().numpy(),
            "nll": -log_probabilities.gather(1, labels[:, None])[:, 0].cpu().numpy(),
        }
        if self.metric.name == "accuracy":  # the others are no means over items
            found["score"] = (predicted == labels).float().cpu().numpy()
        return found

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return {name: FORMULAS[name](predictions, references) for name in self.metrics}


@dataclass(frozen=True)
class Regression:
    """One number an item, from one text or a pair. Columns: `text`, optionally `text_pair`, and `label` (a number).

    The loss is the squared error on (number - centre) / spread, so that one learning rate of the head serves temperatures
    and prices alike; predictions are in the task's own unit. Its negative log-likelihood is that of a Gaussian with this
    spread, without the constant: half the squared error.
    """

    centre: float = 0.0
    spread: float = 1.0
    metrics: tuple[str, ...] = ("pearson", "spearman")
    kind: str = "regression"

    def __post_init__(self) -> None:
        _check_metrics(self.metrics)
        if not self.spread > 0:
            raise ValueError(f"the spread of the numbers must be above 0, not {self.spread}")

    @property
    def outputs(self) -> int:
        return 1

    @property
    def metric(self) -> Metric:
        return METRICS[self.metrics[0]]

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        scaled = [(float(value) - self.centre) / self.spread for value in rows["label"]]
        return {**_tokens(tokenizer, rows, max_length), "labels": scaled}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (logits.float()[:, 0] - batch["labels"]).square().mean()

    def weight(self, batch: dict[str, Tensor]) -> int:
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        found, wanted = logits.float()[:, 0], batch["labels"]
        return {
            # In float64: the task's unit may be a date in seconds.
            "prediction": (found.double() * self.spread + self.centre).cpu().numpy(),
            "reference": (wanted.double() * self.spread + self.centre).cpu().numpy(),
            "nll": (0.5 * (found - wanted).square()).cpu().numpy(),
        }

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return {name: FORMULAS[name](predictions, references) for name in self.metrics}


def _check_metrics(names: tuple[str, ...]) -> None:
    if strange := [name for name in names if name not in FORMULAS]:
        raise ValueError(f"unknown metric {strange[0]!r}; known: {', '.join(FORMULAS)}")
    if not names:
        raise ValueError("a task needs a metric")


def _tokens(tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
    """Token ids of `text`, or of `text` and `text_pair`."""
    texts = [rows["text"]] + ([rows["text_pair"]] if "text_pair" in rows else [])
    tokens: dict[str, list[Any]] = tokenizer(
        *texts, truncation=True, max_length=max_length, return_attention_mask=False
    )
    return dict(tokens)
