"""A loss on each token of a text that is to be given: shared by all that train a model that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .base import IGNORED, Objective, entropy

if TYPE_CHECKING:
    from torch import Tensor


class ByToken(Objective):
    """The mean negative log-likelihood of the tokens in `labels`, of a decoder alone or of an encoder-decoder."""

    # The token that an encoder-decoder's decoder begins with; None: a decoder alone.
    decoder_start: int | None

    def weight(self, batch: dict[str, Tensor]) -> int:
        """Tokens that the loss is the mean of."""
        return int((batch["labels"] != IGNORED).sum())

    def wanted(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A decoder alone gives the token of the next place."""
        if self.decoder_start is not None:
            return labels
        return np.concatenate([labels[:, 1:], np.full_like(labels[:, :1], IGNORED)], axis=1)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        predicted, wanted = self._aligned(logits, batch)
        counted = wanted != IGNORED
        return self.token_losses(predicted[counted], wanted[counted]).mean()

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Of each row: `nll`, the mean over the target's tokens."""
        predicted, wanted = self._aligned(logits, batch)
        counted = wanted != IGNORED
        losses = self.token_losses(predicted[counted], wanted[counted])
        each = losses.new_zeros(wanted.shape)
        each[counted] = losses
        return {"nll": (each.sum(1) / counted.sum(1)).cpu().numpy()}

    def constant_loss(self, targets: npt.NDArray[Any]) -> float | None:
        return entropy(targets[targets != IGNORED])

    def _aligned(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (batch, places, vocabulary) and the token (batch, places) that each place is to give."""
        if self.decoder_start is not None:
            return logits, batch["labels"]
        return logits[:, :-1], batch["labels"][:, 1:]


def without_end(ids: list[int], end: int) -> list[int]:
    """Without the end that a tokenizer itself sets."""
    return ids[:-1] if ids and ids[-1] == end else ids


def end_of(tokenizer: Any) -> int:
    """The token that ends a prompt and a completion."""
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id)
