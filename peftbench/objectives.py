"""What a task asks of a model: how items become tokens, what the loss is, how outputs become predictions and scores.

An objective knows nothing of where the data comes from; a task holds one. `splits()` of a task yields three
`datasets.Dataset` (train, validation, test) with the objective's columns, and optionally `group`: items of one group
(a film, a passage) share something beyond the question and are resampled together in the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import datasets
    from torch import Tensor

    Splits = dict[str, datasets.Dataset]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Metric:
    """A figure of quality. Shares are stored as fractions and shown in per cent."""

    name: str
    higher_is_better: bool = True
    is_share: bool = True


class Objective(Protocol):
    """What a task asks of a model."""

    @property
    def kind(self) -> str:
        """The head it needs: `classification`."""

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for an item."""

    @property
    def metric(self) -> Metric:
        """The primary metric."""

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        """Token ids and targets of some rows, unpadded; every list-valued column is padded later."""

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss over the items of a batch."""

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Per item: `prediction`, `reference`, `nll` (negative log-likelihood), `score` (the primary metric's share)."""

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        """Every metric over a split, the primary one among them."""


@dataclass(frozen=True)
class Classification:
    """One label an item, from one text or a pair. Columns: `text`, optionally `text_pair`, and `label` (an index)."""

    labels: tuple[str, ...]
    kind: str = "classification"
    metric: Metric = Metric("accuracy")

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"classification needs two labels or more, not {list(self.labels)}")

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        texts = [rows["text"]] + ([rows["text_pair"]] if "text_pair" in rows else [])
        tokens = tokenizer(*texts, truncation=True, max_length=max_length, return_attention_mask=False)
        return {**tokens, "labels": rows["label"]}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), batch["labels"])

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        log_probabilities = logits.float().log_softmax(-1)
        labels = batch["labels"]
        predicted = log_probabilities.argmax(-1)
        return {
            "prediction": predicted.cpu().numpy(),
            "reference": labels.cpu().numpy(),
            "nll": -log_probabilities.gather(1, labels[:, None])[:, 0].cpu().numpy(),
            "score": (predicted == labels).float().cpu().numpy(),
        }

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        from sklearn.metrics import f1_score

        macro_f1 = f1_score(references, predictions, average="macro", zero_division=0)
        return {"accuracy": float(np.mean(predictions == references)), "macro_f1": float(macro_f1)}
