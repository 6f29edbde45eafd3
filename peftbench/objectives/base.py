"""What a task asks of a model: how items become tokens, what the loss is, how outputs become predictions and scores.

An objective knows nothing of where the data comes from; a task holds one. `splits()` of a task yields three
`datasets.Dataset` (train, validation, test) with the objective's columns, and optionally

- `group`: items of one group (a film, a passage) share something beyond the question and are resampled together in the
  statistics;
- `part`: every metric is also given for each part of the split by itself, as `accuracy (matched)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .decoding import Decoding
from .metric import Metric

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    from torch import Tensor

    Splits = dict[str, datasets.Dataset]

IGNORED = -100  # the label of a place that is left out of the loss, as the library has it
SPLITS = ("train", "validation", "test")
# Of an objective that judges options, what `encode` gives of each option of an item: its tokens (of all options end to end), how many
# they are, how many characters it has, and 1 for the answer. No model is given these columns.
OF_OPTIONS = ("option_ids", "option_tokens", "option_characters", "option_answer")


def entropy(values: npt.NDArray[Any]) -> float:
    """Of the shares of what is among some values, in nats: the least mean loss of one and the same answer."""
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def negative_log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of each token, (tokens,), by its logits, (tokens, vocabulary), in nats, summed over the vocabulary in float32."""
    from torch.nn import functional

    return functional.cross_entropy(logits.float(), tokens, reduction="none")


def is_by_token(objective: Objective) -> bool:
    """Whether its loss is the mean of its `token_losses`: the class that says which tokens are wanted is that of `loss` and `predict`."""

    def source(name: str) -> type | None:
        return next((its for its in type(objective).__mro__ if name in vars(its)), None)

    return source("wanted") is source("loss") is source("predict")


def joins_items(objective: Objective) -> bool:
    """Whether it makes one item of several rows, for which it may need all of a group."""
    return type(objective).aggregate is not Objective.aggregate


class Objective(Protocol):
    """What a task asks of a model.

    A class of one's own inherits from it, as the built-in ones do: what has a body here is given, the rest is to be written.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of text that a model reads; a split has the first, and perhaps the others."""

    @property
    def target(self) -> str:
        """The column of what is asked for."""

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for an item; 0: it writes."""

    @property
    def metric(self) -> Metric:
        """The primary metric."""

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        """Token ids and targets of some rows, unpadded; every list-valued column is padded later.

        Raises:
            UsageError: `max_length` leaves no room for the tokens that every item needs.
        """

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each of the head's outputs stands for; empty: none has a name."""
        return ()

    def said_of_use(self, tokenizer: Any) -> list[str]:
        """Sentences on what a user of a trained model must know beside how it is loaded: what it is given, what it gives."""
        return []

    @property
    def counted(self) -> dict[str, str]:
        """The columns of `encode` that no model is given: 0 or 1 an item, and what it means for those that have a 1."""
        return {}

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss over the items of a batch, or over the tokens that are to be written."""

    def weight(self, batch: dict[str, Tensor]) -> int:
        """How many items, or tokens, that is the mean of. The batch is in the processor's memory: nothing waits for a GPU."""

    def wanted(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """Of a model that writes, the token asked for at each place of its logits, (batch, places); `IGNORED`: none.

        Where a class says so beside its `loss` and `predict`, they are computed from `token_losses` a few places at a time, and the
        logits of a whole batch never exist: the loss is their mean over a batch, `nll` their mean over an item. None, or a `loss` or
        `predict` in a class below: these two are given all logits.

        Args:
            labels: of `encode`, (batch, length), padded with `IGNORED`.
        """
        return None

    def token_losses(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """The loss of each of some tokens, (tokens,), of their logits, (tokens, vocabulary): negative log-likelihood, in float32."""
        return negative_log_likelihood(logits, tokens)

    def predict(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
        """Per item, (items,): `nll` (negative log-likelihood), `score` where the primary metric is the mean of one number an
        item, and without a `decoding` also `prediction` and `reference`, which may be several numbers an item, (items, numbers)."""

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        """Every metric over a split, the primary one among them."""

    @property
    def reported(self) -> tuple[Metric, ...]:
        """Every metric that `score` gives, the primary one first."""
        return (self.metric,)

    def subsets(
        self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]
    ) -> Callable[[npt.NDArray[np.bool_]], dict[str, float]]:
        """From (items,) of truth values to `score` of those alone."""
        return lambda kept: self.score(predictions[kept], references[kept])

    def unavailable(self) -> str | None:
        """Why one of its metrics can't be had on this machine; None: all can."""
        return None

    def head_for(self, made_for: str) -> str:
        """Which head it asks of a model: `sequence` (numbers for a text), `causal` or `seq2seq` (the model's own, which writes).

        Args:
            made_for: what the checkpoint was made for, one of the three.

        Raises:
            NotSupported: such a model can't do it; the reason follows the model's name.
        """
        return "sequence"

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Whether a model's tokenizer serves it.

        Raises:
            NotSupported: it does not; the reason follows the model's name.
        """
        return

    @property
    def refuses_rows(self) -> bool:
        """Whether `encode` may refuse a row for what is in it: then all are encoded before anything runs."""
        return False

    def with_decoder_start(self, token: int | None) -> Objective:
        """The same for a model whose decoder begins with this token; None: a model without an encoder and a decoder."""
        return self

    @property
    def judges(self) -> bool:
        """Whether an item is several options, each scored by its likelihood. `encode` then gives the columns of `OF_OPTIONS`, too, and
        an item trains as the row of its answer. Its loss is one by token."""
        return False

    def judge(
        self, likelihoods: list[npt.NDArray[np.float64]], of_options: Mapping[str, list[npt.NDArray[Any]]]
    ) -> dict[str, npt.NDArray[Any]]:
        """What `predict` would give, of an objective that judges, and what else is to be kept of each item.

        Args:
            likelihoods: of each item the log-likelihood of each of its options, (options,), in nats, summed over the option's tokens.
            of_options: of each item the columns of `OF_OPTIONS` that have one number an option, (options,).
        """
        return {}

    def said_of_scores(self, predictions: pd.DataFrame) -> list[str]:
        """What a reader of the table should know of some scored items, the rows that `aggregate` gives."""
        return []

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are kept as text beside the tokens, for `aggregate`; `group` and `part` always are."""
        return ()

    @property
    def decoding(self) -> Decoding | None:
        """How the model writes its prediction of an item; None: `predict` gives it."""
        return None

    def ends(self, tokenizer: Any) -> list[int]:
        """Tokens after which writing stops, beside those that the model itself names; of one with a `decoding`."""
        return []

    def aggregate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """One row an item. `rows` are a split's, in its order: `item`, what `predict` gives, and the columns of `texts`."""
        return rows

    def perfect(self, rows: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The predictions that can't be better of some rows (a `Dataset`), and their references, both (items,)."""
        wanted = np.asarray(rows[self.target])
        return wanted, wanted

    def chance(self, references: npt.NDArray[Any]) -> dict[str, float]:
        """What metrics are on average for the references in a random order, of those of which that is known."""
        return {}

    def constant_loss(self, targets: npt.NDArray[Any]) -> float | None:
        """The mean loss of the best output that is the same everywhere; None: not known.

        Args:
            targets: what a training split asks for, as `encode` gives it, one after the other.
        """
        return None

    def constant_score(self, references: npt.NDArray[Any]) -> float | None:
        """The primary metric of the best prediction that is the same for every item, (items,); None: not known."""
        return None

    def check_rows(self, splits: Splits) -> str:
        """What is worth saying of the rows' targets.

        Raises:
            PeftbenchError: they can't be learned or scored.
        """
        return ""

    def uninformative(self, rows: Any) -> str | None:
        """Why some training rows (a `Dataset`) can't be learned from, said of "these items"; None: they can."""
        return None


def check_length(max_length: int, least: int, why: str) -> None:
    """Whether an item has room in so many tokens.

    Raises:
        UsageError: it needs `least`.
    """
    if max_length < least:
        raise UsageError(f"--max-length {max_length}: {why}; ask for {least} tokens or more")
