"""Multiple choice by log-likelihood: each option is scored as what follows a question, and the likeliest one is the answer.

    log p(option | question) = sum over the option's tokens of log p(token | question, tokens before)

`acc` takes the option where that is highest, `acc_norm` the one where it is highest divided by the option's number of characters, both as
lm-evaluation-harness defines them (Gao et al., `acc` and `acc_norm` of `multiple_choice`). A model trains on the answer's tokens alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import NotSupported, PeftbenchError, UsageError
from .base import IGNORED, SPLITS, check_length
from .by_token import ByToken, end_of, without_end
from .metric import Metric

if TYPE_CHECKING:
    import pandas as pd

    from .base import Splits

METRICS = {"acc": Metric("acc"), "acc_norm": Metric("acc_norm")}
# Log-likelihoods nearer to each other than this, in nats, are a tie: that is what another batch and padding change them by.
TIE = 1e-4
MOST_OF_OPTION = 0.5  # of the tokens that an item may have: the rest is the question's


@dataclass(frozen=True)
class Choice(ByToken):
    """One of several options. Columns: `question`, `choices` (texts), `answer` (an index), optionally `group` and `part`.

    An option follows its question after one space. Where several options tie for the highest log-likelihood, the first of them counts.
    """

    metrics: tuple[str, ...] = ("acc", "acc_norm")  # the first is the primary one
    decoder_start: int | None = None

    def __post_init__(self) -> None:
        if strange := [name for name in self.metrics if name not in METRICS]:
            raise ValueError(f"unknown metric {strange[0]!r}; known: {', '.join(METRICS)}")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"a task needs a metric, each once, not {list(self.metrics)}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return "question", "choices"

    @property
    def target(self) -> str:
        return "answer"

    @property
    def outputs(self) -> int:
        return 0

    @property
    def reported(self) -> tuple[Metric, ...]:
        return tuple(METRICS[name] for name in self.metrics)

    @property
    def metric(self) -> Metric:
        return self.reported[0]

    @property
    def judges(self) -> bool:
        return True

    def head_for(self, made_for: str) -> str:
        if made_for == "sequence":
            raise NotSupported(
                "gives no probability to a text, as each option needs; this task needs a decoder or an encoder-decoder"
            )
        return made_for

    def with_decoder_start(self, token: int | None) -> Choice:
        return dataclasses.replace(self, decoder_start=token)

    @property
    def counted(self) -> dict[str, str]:
        return {
            "cut": "have a question that is too long beside its options (in tokens) and loses its beginning",
            "shortened": f"have an option of more than {MOST_OF_OPTION:.0%} of an item's tokens, which loses its end",
        }

    def said_of_use(self, tokenizer: Any) -> list[str]:
        share = ", divided by its number of characters" if self.metric.name == "acc_norm" else ""
        return [
            "An option follows its question after one space, without an end token between them or behind it.",
            f"The answer is the option with the highest sum of its tokens' log-likelihoods{share}.",
        ]

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        """Of each row the question with its answer, and apart from it the tokens of all its options, end to end."""
        check_length(max_length, 2, "question and option need a token each")
        names = ["input_ids", "labels", "option_ids", "option_tokens", "option_characters", "option_answer"]
        names += ["source_tokens"] if self.decoder_start is None else ["decoder_input_ids"]
        columns: dict[str, list[Any]] = {name: [] for name in [*names, *self.counted]}
        items = zip(rows["question"], rows["choices"], rows["answer"], strict=True)
        for question, choices, answer in items:
            if wrong := wrong_item(question, choices, answer):
                raise PeftbenchError(f"question {str(question)[:60]!r}, column {wrong[0]!r}: {wrong[1]}")
            context, options = self._tokens(tokenizer, question, choices)
            most = max(1, int(max_length * MOST_OF_OPTION))
            short = [ids[:most] for ids in options]
            # The same for every option, so that all are compared after one question.
            room = max_length if self.decoder_start is not None else max_length - max(map(len, short))
            asked = context[-room:]
            columns["cut"].append(int(len(asked) < len(context)))
            columns["shortened"].append(int(short != options))
            columns["option_ids"].append([token for ids in short for token in ids])
            columns["option_tokens"].append([len(ids) for ids in short])
            columns["option_characters"].append([len(text) for text in choices])
            columns["option_answer"].append([int(at == answer) for at in range(len(choices))])
            gold = short[answer]
            if self.decoder_start is None:
                columns["input_ids"].append([*asked, *gold])
                columns["labels"].append([IGNORED] * len(asked) + gold)
                columns["source_tokens"].append(len(asked))
            else:
                columns["input_ids"].append(asked)
                columns["labels"].append(gold)
                columns["decoder_input_ids"].append([self.decoder_start, *gold[:-1]])
        return columns

    def _tokens(self, tokenizer: Any, question: str, choices: list[str]) -> tuple[list[int], list[list[int]]]:
        """The tokens of a question and of each option behind it, as lm-evaluation-harness takes them (`_encode_pair`).

        A decoder's option is what the tokens of both together have more than those of the question alone; white space at the end of the
        question goes to the option. Where that leaves nothing, the option's own tokens are taken.
        """
        end = end_of(tokenizer)
        context = question.rstrip()
        spaces = question[len(context) :] + " "
        alone = tokenizer([spaces + text for text in choices], add_special_tokens=False)["input_ids"]
        if self.decoder_start is not None:
            asked = list(tokenizer(context)["input_ids"])
            return asked, [_some(ids, text) for ids, text in zip(alone, choices, strict=True)]
        whole = tokenizer([context, *(context + spaces + text for text in choices)])["input_ids"]
        asked, *both = [without_end(list(ids), end) for ids in whole]
        found = [ids[len(asked) :] or own for ids, own in zip(both, alone, strict=True)]
        return asked, [_some(ids, text) for ids, text in zip(found, choices, strict=True)]

    def judge(
        self, likelihoods: list[npt.NDArray[np.float64]], of_options: Mapping[str, list[npt.NDArray[Any]]]
    ) -> dict[str, npt.NDArray[Any]]:
        """The options chosen by log-likelihood and by log-likelihood a character, (items, 2), and the answers, (items,)."""
        counts = len(likelihoods)
        chosen, answers = np.empty((counts, 2), np.int64), np.empty(counts, np.int64)
        nll, ties = np.empty(counts, np.float64), np.empty((counts, 2), bool)
        lengths, flags = of_options["option_characters"], of_options["option_answer"]
        tokens = of_options["option_tokens"]
        for at, found in enumerate(likelihoods):
            answers[at] = int(np.argmax(flags[at]))
            nll[at] = -found[answers[at]] / tokens[at][answers[at]]
            for way, width in enumerate((np.ones(len(found)), lengths[at])):
                shares = found / width
                best = np.flatnonzero((shares.max() - shares) * width <= TIE)
                chosen[at, way], ties[at, way] = best[0], len(best) > 1
        primary = list(METRICS).index(self.metric.name)
        told = {"log_likelihoods": likelihoods, "characters": lengths}
        return {
            "prediction": chosen,
            "reference": answers,
            "nll": nll,
            "score": (chosen[:, primary] == answers).astype(np.float32),
            "tied": ties[:, primary],
            **{name: _ragged(its) for name, its in told.items()},
        }

    def said_of_scores(self, predictions: pd.DataFrame) -> list[str]:
        """What a guess comes to, and ties."""
        options = np.array([len(its) for its in predictions["log_likelihoods"]])
        found = [
            f"{_count(options)} options an item: a guess among them is right in {100 * float(np.mean(1 / options)):.1f} %"
        ]
        if ties := int(predictions["tied"].sum()):
            found.append(
                f"in {ties:,} of {len(predictions):,} scored items options tie (within {TIE:g} nats) for the best; the first of them counts"
            )
        return found

    def score(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return self.subsets(predictions, references)(np.ones(len(predictions), bool))

    def subsets(
        self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]
    ) -> Callable[[npt.NDArray[np.bool_]], dict[str, float]]:
        ways = list(METRICS)
        right = {m.name: predictions[:, ways.index(m.name)] == references for m in self.reported}
        return lambda kept: {name: float(np.mean(its[kept])) for name, its in right.items()}

    def perfect(self, rows: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        answers = np.asarray(rows["answer"], np.int64)
        return np.stack([answers, answers], axis=1), answers

    def chance(self, references: npt.NDArray[Any]) -> dict[str, float]:
        """Accuracy of the answers in a random order; what a guess comes to is said of the scores."""
        _, counts = np.unique(references, return_counts=True)
        return {m.name: float(np.square(counts / len(references)).sum()) for m in self.reported}

    def constant_loss(self, targets: npt.NDArray[Any]) -> float | None:
        """Not known: an option is to be likelier than the others, however unlikely its tokens are. The score tells what was learned."""
        return None

    def constant_score(self, references: npt.NDArray[Any]) -> float:
        """Of always the same place among the options."""
        return float(np.bincount(references).max() / len(references))

    def check_rows(self, splits: Splits) -> str:
        for split in SPLITS:
            rows = splits[split]
            items = zip(rows["question"], rows["choices"], rows["answer"], strict=True)
            for at, item in enumerate(items, 1):
                if wrong := wrong_item(*item):
                    raise PeftbenchError(f"row {at} of {split}, column {wrong[0]!r}: {wrong[1]}")
        options = np.array([len(its) for its in splits["test"]["choices"]])
        return f"{_count(options)} options, a guess is right in {100 * float(np.mean(1 / options)):.1f} %"


def wrong_item(question: object, choices: object, answer: object) -> tuple[str, str] | None:
    """The column of an item where something is wrong, and what; None: nothing is."""
    if not isinstance(question, str) or not question.strip():
        return "question", "it is empty" if isinstance(question, str | None) else f"{question!r} is no text"
    if not isinstance(choices, list) or any(not isinstance(text, str) for text in choices):
        return "choices", "it must be a list of texts"
    if len(choices) < 2:
        options = f"{len(choices)} option{'' if len(choices) else 's'}"
        return "choices", f"it has {options}; at least two are needed"
    if empty := [at for at, text in enumerate(choices, 1) if not text.strip()]:
        return "choices", f"option {empty[0]} of {len(choices)} is empty"
    meant = [" ".join(text.split()) for text in choices]
    if twice := [text for at, text in enumerate(meant) if text in meant[:at]]:
        return "choices", f"two options are {twice[0][:60]!r}"
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        return (
            "answer",
            f"{answer!r} is not an index into its {len(choices)} options (0 to {len(choices) - 1})",
        )
    return None


def _some(ids: list[int], text: str) -> list[int]:
    """The tokens of an option, of which there is one at least."""
    if not ids:
        raise UsageError(f"option {text[:60]!r} has no token in this model's tokenizer; remove such items")
    return list(ids)


def _ragged(values: list[npt.NDArray[Any]]) -> npt.NDArray[np.object_]:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _count(options: npt.NDArray[np.int64]) -> str:
    least, most = int(options.min()), int(options.max())
    return str(least) if least == most else f"{least} to {most}"
