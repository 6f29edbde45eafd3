"""The head alone, solved to convergence on frozen features (a linear probe): what the base model already knows.

Features are the mean of the last hidden states over real tokens, read once with dropout off; on them a logistic
regression, or for a number a ridge regression, its inverse penalty C chosen on the validation split by the task's loss.
It is convex, and sees the items that the steps of its seed draw: a method that was trained on the same items and is no
better has learned nothing that the base did not hold. `items=all` is the probe on the whole training split, which tells
what more data would be worth. Of a language model that is to write, it is the model itself, frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from peftbench import Adaptation, Batch, Claims, Facts, Preset, method
from peftbench.models.pooled import MeanPooledClassifier

PENALTIES = (0.01, 0.1, 1.0, 10.0)  # values of C, on standardised features
BELOW = 30.0  # nats that a class which training lacks is behind the others
ROUNDED = 0.01  # of the items may lie so near the border that float32 takes them to another side

Floats = npt.NDArray[np.float64]
Solution = tuple[Floats, Floats, npt.NDArray[np.int64]]  # (outputs, width), (outputs,), which outputs


@method(
    "head",
    claims=Claims(exact_base=True, mergeable=True, seedless=True, shared_budget=False),
    preset=Preset(0.0, source="none: solved to convergence, without a learning rate"),
    facts=Facts(
        "softmax(W f(x) + b), f frozen, solved to convergence",
        count="0 beside the head",
        paper="",
        stored="nothing beside the head",
    ),
)
@dataclass(frozen=True)
class Head:
    """A converged linear probe on the frozen model's features."""

    items: Literal["steps", "all"] = "steps"  # of the training split: those that the steps draw, or all
    max_iterations: int = 2000

    def inject(self, model: nn.Module) -> Adaptation:
        if getattr(model, "get_output_embeddings", lambda: None)() is not None:
            # A language model's head is part of what was trained before: the row is the frozen model as it is.
            return Adaptation(model, params={}, fit=lambda batches: 0, whole_split=True)
        if not isinstance(model, MeanPooledClassifier):
            whole: Any = model
            # The decoder of an encoder-decoder would read the text through another text of its own.
            reads = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
            model = MeanPooledClassifier(reads, int(whole.config.num_labels))
        head = dict(model.classifier.named_parameters(prefix="classifier"))
        probe = Probe(model, self.max_iterations)
        return Adaptation(model, params={}, head=head, fit=probe, whole_split=self.items == "all")


@dataclass(frozen=True)
class Probe:
    """Logistic or ridge regression on pooled features, written into the model's linear layer."""

    model: MeanPooledClassifier
    max_iterations: int

    def __call__(self, batches: Callable[[str], Iterable[Batch]]) -> int:
        train, labels = self.features(batches("train"))
        validation, references = self.features(batches("validation"))
        centre, spread = train.mean(0), train.std(0) + 1e-6
        given = ((train - centre) / spread, labels, (validation - centre) / spread, references)
        numbers = np.issubdtype(labels.dtype, np.floating)
        weight, bias, classes = self.ridge(*given) if numbers else self.logistic(*given)
        self.write(weight / spread, bias - weight @ (centre / spread), classes)
        if not numbers:
            self.check(train, classes[(given[0] @ weight.T + bias).argmax(1)])
        return len(labels)

    def logistic(self, train: Floats, labels: Any, validation: Floats, references: Any) -> Solution:
        """The classes that training has, by the penalty that loses least on validation."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss

        classes = np.arange(self.model.classifier.out_features)

        def loss(probe: Any) -> float:
            probabilities = np.full((len(validation), len(classes)), 1e-9)
            probabilities[:, probe.classes_] = probe.predict_proba(validation)
            probabilities /= probabilities.sum(1, keepdims=True)
            return float(log_loss(references, probabilities, labels=classes))

        tried = [LogisticRegression(C=c, max_iter=self.max_iterations).fit(train, labels) for c in PENALTIES]
        best = min(tried, key=loss)
        if len(best.classes_) == 2:  # one row holds the difference of their logits
            return (
                np.stack([-best.coef_[0], best.coef_[0]]) / 2,
                np.array([-best.intercept_[0], best.intercept_[0]]) / 2,
                best.classes_,
            )
        return best.coef_, best.intercept_, best.classes_

    def ridge(self, train: Floats, numbers: Any, validation: Floats, references: Any) -> Solution:
        """One number, by the penalty whose squared error is least on validation."""
        from sklearn.linear_model import Ridge

        tried = [Ridge(alpha=1 / c).fit(train, numbers) for c in PENALTIES]
        best = min(tried, key=lambda probe: float(np.mean((probe.predict(validation) - references) ** 2)))
        return best.coef_[None], np.array([best.intercept_]), np.array([0])

    @torch.no_grad()
    def features(self, batches: Iterable[Batch]) -> tuple[Floats, npt.NDArray[Any]]:
        """Pooled features (items, width) and labels (items,)."""
        rows, labels = [], []
        for batch in batches:
            inputs = {
                name: batch[name]
                for name in ("input_ids", "attention_mask", "token_type_ids")
                if name in batch
            }
            rows.append(self.model.pooled(**inputs).float().cpu().numpy())
            labels.append(batch["labels"].cpu().numpy())
        return np.concatenate(rows).astype(np.float64), np.concatenate(labels)

    @torch.no_grad()
    def write(self, weight: Floats, bias: Floats, classes: npt.NDArray[np.int64]) -> None:
        """Put the solution into the linear layer."""
        linear = self.model.classifier
        if not len(weight) == len(bias) == len(classes):
            raise ValueError(f"{len(weight)} rows of weights are no solution for {len(classes)} classes")
        # A class that the training split lacks is never predicted: it stays far below the mean of the others.
        linear.weight.copy_(torch.from_numpy(weight.mean(0)).expand_as(linear.weight))
        linear.bias.fill_(bias.mean() - BELOW)
        linear.weight[classes] = torch.from_numpy(weight).to(linear.weight)
        linear.bias[classes] = torch.from_numpy(bias).to(linear.bias)

    @torch.no_grad()
    def check(self, features: Floats, wanted: npt.NDArray[np.int64]) -> None:
        """Whether the layer says of its own training features what the solution says.

        Raises:
            ArithmeticError: it does not.
        """
        linear = self.model.classifier
        said = linear(torch.from_numpy(features).to(linear.weight)).argmax(-1).cpu().numpy()
        if (differing := int((said != wanted).sum())) > ROUNDED * len(wanted):
            raise ArithmeticError(
                f"the layer says another class than the probe of {differing:,} of {len(wanted):,} training items"
            )
