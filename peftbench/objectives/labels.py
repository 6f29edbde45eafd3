"""One label or one number an item, from one text or a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import PeftbenchError
from .base import SPLITS, Objective, check_length, entropy
from .item_metrics import ITEM_METRICS, ItemMetric
from .metric import chosen

if TYPE_CHECKING:
    from torch import Tensor

    from .base import Splits


class PerItem(Objective):
    """One value an item, told by the head. Columns: `text`, optionally `text_pair`, and `label`."""

    metrics: tuple[
        str | ItemMetric, ...
    ]  # general ones by name, others as they are; the first is the primary one

    @property
    def inputs(self) -> tuple[str, ...]:
        return "text", "text_pair"

    @property
    def target(self) -> str:
        return "label"

    @property
    def reported(self) -> tuple[ItemMetric, ...]:
        return chosen(self.metrics, ITEM_METRICS)

    @property
    def metric(self) -> ItemMetric:
        return self.reported[0]

    @property
    def counted(self) -> dict[str, str]:
        return {
            "cut": "are longer than an item may be (in tokens) and are cut",
            "blank": "have no token in this tokenizer but special ones",
        }

    def said_of_use(self, tokenizer: Any) -> list[str]:
        if not (between := _between(tokenizer)):
            return []
        return [f"Where an item has two texts, `{between}` stands before the second."]

    def weight(self, batch: dict[str, Tensor]) -> int:
        return len(batch["labels"])

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return {metric.name: metric.formula(predictions, references) for metric in self.reported}

    def _best(self, answers: Sequence[npt.NDArray[Any]], references: npt.NDArray[Any]) -> float:
        """The primary metric of the best of some predictions."""
        found = [float(self.metric.formula(answer, references)) for answer in answers]
        return max(found) if self.metric.higher_is_better else min(found)

    def chance(self, references: npt.NDArray[Any]) -> dict[str, float]:
        return {m.name: m.chance(references) for m in self.reported if m.chance is not None}


@dataclass(frozen=True)
class Classification(PerItem):
    """One label an item, from one text or a pair. Columns: `text`, optionally `text_pair`, and `label` (an index)."""

    labels: tuple[str, ...]
    metrics: tuple[str | ItemMetric, ...] = ("accuracy", "macro_f1")

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"classification needs two labels or more, not {list(self.labels)}")
        if ITEM_METRICS["f1"] in self.reported and len(self.labels) > 2:
            raise ValueError(f"f1 is of the second of two labels, not of {len(self.labels)}; take macro_f1")

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.labels

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        places = range(self.outputs)
        if strange := [label for label in rows["label"] if label not in places]:
            raise PeftbenchError(f"label {strange[0]!r} is not an index into its {self.outputs} labels")
        return {**_tokens(tokenizer, rows, max_length), "labels": [int(label) for label in rows["label"]]}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), batch["labels"])

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        log_probabilities = logits.float().log_softmax(-1)
        labels = batch["labels"]
        predicted = log_probabilities.argmax(-1)
        found = {
            "prediction": predicted.cpu().numpy(),
            "reference": labels.cpu().numpy(),
            "nll": -log_probabilities.gather(1, labels[:, None])[:, 0].cpu().numpy(),
        }
        if (
            self.metric == ITEM_METRICS["accuracy"]
        ):  # one of that name may be another; the others are no means over items
            found["score"] = (predicted == labels).float().cpu().numpy()
        return found

    def constant_loss(self, targets: npt.NDArray[Any]) -> float:
        return entropy(targets)

    def constant_score(self, references: npt.NDArray[Any]) -> float:
        return self._best([np.full_like(references, label) for label in np.unique(references)], references)

    def check_rows(self, splits: Splits) -> str:
        for split in SPLITS:
            labels = _numbers(splits, split)
            wrong = (labels != labels.round()) | (labels < 0) | (labels >= self.outputs)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                raise PeftbenchError(
                    f"label {labels[at]:g} of row {at + 1} of {split} is not an index into its {self.outputs} labels"
                )
        if missing := self.outputs - len(np.unique(_numbers(splits, "train"))):
            raise PeftbenchError(f"{missing} of its {self.outputs} labels have no training row")
        return f"{self.outputs} labels"

    def uninformative(self, rows: Any) -> str | None:
        return "all of one label" if len(set(rows["label"])) < 2 else None


@dataclass(frozen=True)
class Regression(PerItem):
    """One number an item, from one text or a pair. Columns: `text`, optionally `text_pair`, and `label` (a number).

    The loss is the squared error on (number - centre) / spread, so that one learning rate of the head serves temperatures
    and prices alike; predictions are in the task's own unit. Its negative log-likelihood is that of a Gaussian with this
    spread, without the constant: half the squared error.
    """

    centre: float = 0.0
    spread: float = 1.0
    metrics: tuple[str | ItemMetric, ...] = ("pearson", "spearman")

    def __post_init__(self) -> None:
        self.reported  # noqa: B018  checks the metrics
        if not self.spread > 0:
            raise ValueError(f"the spread of the numbers must be above 0, not {self.spread}")

    @property
    def outputs(self) -> int:
        return 1

    def said_of_use(self, tokenizer: Any) -> list[str]:
        said = super().said_of_use(tokenizer)
        if (self.centre, self.spread) == (0.0, 1.0):
            return said
        return [
            f"The number that it predicts is its output times {float(self.spread)!r} plus {float(self.centre)!r}.",
            *said,
        ]

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        scaled = [(_number(value) - self.centre) / self.spread for value in rows["label"]]
        return {**_tokens(tokenizer, rows, max_length), "labels": scaled}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (logits.float()[:, 0] - batch["labels"]).square().mean()

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        found, wanted = logits.float()[:, 0], batch["labels"]
        return {
            # In float64: the task's unit may be a date in seconds.
            "prediction": (found.double() * self.spread + self.centre).cpu().numpy(),
            "reference": (wanted.double() * self.spread + self.centre).cpu().numpy(),
            "nll": (0.5 * (found - wanted).square()).cpu().numpy(),
        }

    def constant_loss(self, targets: npt.NDArray[Any]) -> float:
        return float(targets.var())

    def constant_score(self, references: npt.NDArray[Any]) -> float:
        middles = (references.mean(), np.median(references))
        return self._best([np.full(len(references), middle) for middle in middles], references)

    def check_rows(self, splits: Splits) -> str:
        numbers = {split: _numbers(splits, split) for split in SPLITS}
        if np.ptp(numbers["train"]) == 0:
            raise PeftbenchError("all numbers of its training split are the same")
        return ""


def _number(label: Any) -> float:
    try:
        found = float(label)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise PeftbenchError(f"label {label!r} is not a number")
    return found


def _numbers(splits: Splits, split: str) -> npt.NDArray[np.float64]:
    """The labels of a split, (items,)."""
    labels = np.asarray(splits[split]["label"], np.float64)
    if not np.isfinite(labels).all():
        raise PeftbenchError(f"its {split} split has labels that are no numbers")
    return labels


def _tokens(tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
    """Token ids of `text`, or of `text` and `text_pair`, and the columns that `PerItem.counted` names."""
    texts = [rows["text"]] + ([_apart(tokenizer, rows["text_pair"])] if "text_pair" in rows else [])
    tokens: dict[str, list[Any]] = dict(tokenizer(*texts, return_attention_mask=False, verbose=False))
    long = [i for i, ids in enumerate(tokens["input_ids"]) if len(ids) > max_length]
    if long:
        own = tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
        least = own + 2 if len(texts) == 2 else max(own, 1)  # one token at least of each of two
        check_length(max_length, least, f"the tokenizer puts {own} of its own into every item")
        few = [[its[i] for i in long] for its in texts]
        cut = tokenizer(*few, truncation=True, max_length=max_length, return_attention_mask=False)
        for name, its in tokens.items():
            for i, ids in zip(long, cut[name], strict=True):
                its[i] = ids
    special = set(getattr(tokenizer, "all_special_ids", ()))
    tokens["blank"] = [int(special.issuperset(ids)) for ids in tokens["input_ids"]]
    tokens["cut"] = [0] * len(tokens["input_ids"])
    for i in long:
        tokens["cut"][i] = 1
    for name in [name for name in tokens if name not in ("blank", "cut")]:  # a model must be given something
        if not all(tokens[name]):
            filler = tokenizer.pad_token_id if name == "input_ids" else 0
            tokens[name] = [ids or [filler] for ids in tokens[name]]
    return tokens


def _apart(tokenizer: Any, seconds: list[str]) -> list[str]:
    """The second texts, behind an end token where the tokenizer itself puts nothing between two."""
    between = _between(tokenizer)
    return [between + text for text in seconds] if between else seconds


def _between(tokenizer: Any) -> str:
    """What stands between two texts beside what the tokenizer itself puts there."""
    marks = tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False)
    return "" if marks or tokenizer.eos_token is None else str(tokenizer.eos_token)
