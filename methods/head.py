"""The head alone, trained to convergence on frozen features: what the base model already knows.

Features are the mean of the last hidden states over real tokens, read once with dropout off; on them a logistic
regression, its inverse penalty C chosen on the validation split by negative log-likelihood. It is convex and sees the
whole training split, so it does not depend on the seed or on the step budget: a fine-tuning method that is no better
has learned nothing that the base did not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from peftbench import Adaptation, Batch, Claims, Facts, Preset, method
from peftbench.models import MeanPooledClassifier

PENALTIES = (0.01, 0.1, 1.0, 10.0)  # values of C, on standardised features

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@method(
    "head",
    claims=Claims(exact_base=True, mergeable=True, seedless=True),
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

    max_iterations: int = 2000

    def inject(self, model: nn.Module) -> Adaptation:
        if not isinstance(model, MeanPooledClassifier):
            whole: Any = model
            # The decoder of an encoder-decoder would read the text through another text of its own.
            reads = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
            model = MeanPooledClassifier(reads, int(whole.config.num_labels))
        head = dict(model.classifier.named_parameters(prefix="classifier"))
        return Adaptation(model, params={}, head=head, fit=Probe(model, self.max_iterations))


@dataclass(frozen=True)
class Probe:
    """Logistic regression on pooled features, written into the model's linear layer."""

    model: MeanPooledClassifier
    max_iterations: int

    def __call__(self, batches: Callable[[str], Iterable[Batch]]) -> int:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss

        train, labels = self.features(batches("train"))
        validation, references = self.features(batches("validation"))
        centre, spread = train.mean(0), train.std(0) + 1e-6
        classes = np.arange(self.model.classifier.out_features)
        best: tuple[float, LogisticRegression] | None = None
        for penalty in PENALTIES:
            probe = LogisticRegression(C=penalty, max_iter=self.max_iterations)
            probe.fit((train - centre) / spread, labels)
            known = probe.predict_proba((validation - centre) / spread)
            probabilities = np.full((len(known), len(classes)), 1e-9)
            probabilities[:, probe.classes_] = known
            probabilities /= probabilities.sum(1, keepdims=True)
            loss = float(log_loss(references, probabilities, labels=classes))
            if best is None or loss < best[0]:
                best = (loss, probe)
        assert best is not None
        self.write(
            best[1].coef_ / spread, best[1].intercept_ - best[1].coef_ @ (centre / spread), best[1].classes_
        )
        return len(labels)

    @torch.no_grad()
    def features(self, batches: Iterable[Batch]) -> tuple[Floats, Labels]:
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
    def write(self, weight: Floats, bias: Floats, classes: Labels) -> None:
        """Put the solution into the linear layer; of two classes, one row holds the difference of their logits."""
        linear = self.model.classifier
        if len(weight) == 1:
            weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
        linear.weight.zero_()
        linear.bias.fill_(bias.min() - 30.0)  # a class that the training split lacks is never predicted
        linear.weight[classes] = torch.from_numpy(weight).to(linear.weight)
        linear.bias[classes] = torch.from_numpy(bias).to(linear.bias)
