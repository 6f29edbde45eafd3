"""One label or one number an item, from one text or a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .base import METRICS, Metric, check_metrics
from .item_metrics import FORMULAS

if TYPE_CHECKING:
    from torch import Tensor


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
        check_metrics(self.metrics)

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
        check_metrics(self.metrics)
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


def _tokens(tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
    """Token ids of `text`, or of `text` and `text_pair`."""
    texts = [rows["text"]] + ([rows["text_pair"]] if "text_pair" in rows else [])
    tokens: dict[str, list[Any]] = tokenizer(
        *texts, truncation=True, max_length=max_length, return_attention_mask=False
    )
    return dict(tokens)
