"""Multiple choice: what the tokens are, which option counts, and that likelihoods are those of a plain loop over the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from peftbench import Choice, NotSupported, PeftbenchError, UsageError
from peftbench.execution import batches
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for
from peftbench.models.load import Loaded, decoder_start, load_model
from peftbench.models.output_layer import WHOLE, output_layer_of
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.choice import wrong_item

from ..execution.test_generate import END, ids

Of = Callable[[str], str]
ROWS: dict[str, list[Any]] = {
    "question": ["Who is it?", "The sky is ", "A longer question about nothing:"],
    "choices": [["he", "she and more"], ["blue", "red", "a colour"], ["no", "yes", "maybe", "who knows?"]],
    "answer": [1, 0, 3],
}


def encoded(objective: Choice, rows: dict[str, list[Any]], key: str, length: int = 64) -> batches.Encoded:
    import datasets

    splits = dict.fromkeys(("train", "validation", "test"), datasets.Dataset.from_dict(rows))
    return batches.encode_splits("t", objective, lambda: splits, byte_tokenizer(), length, key)["test"]


def scored(loaded: Loaded, objective: Choice, split: batches.Encoded, at_once: int) -> pd.DataFrame:
    output = output_layer_of(loaded.model) if at_once > 1 else WHOLE
    accelerator = accelerator_for("cpu", "float32")
    return Scorer(loaded.model, objective, byte_tokenizer(), accelerator, at_once, output).predict(split)


def judged(likelihoods: list[list[float]], texts: list[list[str]], metrics: Any = ("acc",)) -> dict[str, Any]:
    known = {
        "option_characters": [np.array([len(text) for text in its]) for its in texts],
        "option_tokens": [np.ones(len(its), int) for its in texts],
        "option_answer": [np.arange(len(its)) == 0 for its in texts],
    }
    return Choice(metrics).judge([np.array(its) for its in likelihoods], known)


def test_a_decoder_reads_the_question_and_the_answer_one_space_apart_without_an_end_between() -> None:
    found = Choice().encode(byte_tokenizer(), ROWS, 64)
    first = byte_tokenizer()("a")["input_ids"][0]
    assert found["input_ids"][0] == [first, *ids("Who is it? she and more")]
    assert END not in found["input_ids"][0]
    assert found["labels"][0] == [-100] * 11 + ids(" she and more")
    assert found["source_tokens"][0] == 11
    assert found["option_ids"][0] == [*ids(" he"), *ids(" she and more")]
    assert found["option_tokens"][0] == [3, 13]
    assert found["option_characters"][0] == [2, 12]  # of the text alone, without the space between
    assert found["option_answer"][0] == [0, 1]


def test_white_space_at_the_end_of_a_question_goes_to_its_options() -> None:
    found = Choice().encode(byte_tokenizer(), ROWS, 64)
    assert found["option_ids"][1][:6] == ids("  blue")
    assert found["source_tokens"][1] == 1 + len("The sky is")


def test_an_option_is_what_the_tokens_of_both_together_have_more() -> None:
    """A tokenizer may cut a text elsewhere when another one follows; lm-evaluation-harness counts tokens of the question alone."""

    class Pairs:
        """Two letters a token, so that what follows moves each cut."""

        eos_token_id, sep_token_id = 0, None

        def __call__(self, texts: Any, add_special_tokens: bool = True) -> dict[str, Any]:
            many = [texts] if isinstance(texts, str) else texts
            cut = [[hash(text[i : i + 2]) for i in range(0, len(text), 2)] for text in many]
            return {"input_ids": cut[0] if isinstance(texts, str) else cut}

    rows: dict[str, list[Any]] = {"question": ["abc"], "choices": [["de", "f"]], "answer": [0]}
    found = Choice().encode(Pairs(), rows, 16)
    assert found["input_ids"] == [[hash(two) for two in ("ab", "c", "de")]]  # of "abc de": "ab", "c ", "de"
    assert found["option_ids"] == [[hash("de"), hash("f")]]  # of "abc f": "ab", "c ", "f"


def test_an_encoder_decoder_writes_the_option_without_an_end() -> None:
    found = Choice(decoder_start=7).encode(byte_tokenizer(), ROWS, 64)
    assert found["input_ids"][0] == byte_tokenizer()("Who is it?")["input_ids"]
    assert found["labels"][0] == ids(" she and more")
    assert found["decoder_input_ids"][0] == [7, *ids(" she and more")[:-1]]
    assert "source_tokens" not in found


def test_a_long_question_loses_its_beginning_the_same_for_every_option_and_a_long_option_its_end() -> None:
    rows: dict[str, list[Any]] = {
        "question": ["abcdefgh"] * 2,
        "choices": [["x", "yz"], ["x" * 20, "yz"]],
        "answer": [0, 1],
    }
    found = Choice().encode(byte_tokenizer(), rows, 10)
    assert found["cut"] == [1, 1]
    assert found["shortened"] == [0, 1]
    assert found["input_ids"] == [[*ids("bcdefgh x")], [*ids("defgh yz")]]
    assert found["option_tokens"] == [[2, 3], [5, 3]]
    with pytest.raises(UsageError, match="question and option need a token each"):
        Choice().encode(byte_tokenizer(), rows, 1)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_likelihoods_are_those_of_a_plain_loop_whatever_the_batch(
    family: str, at_once: int, checkpoint: Of
) -> None:
    source = resolve_model(checkpoint(family))
    objective = Choice().with_decoder_start(decoder_start(source))
    loaded = load_model(source, objective, 0)
    frame = scored(loaded, objective, encoded(objective, ROWS, f"choice {family}"), at_once)
    tokenizer = byte_tokenizer()
    for at, row in frame.iterrows():
        question, choices = ROWS["question"][int(str(at))], ROWS["choices"][int(str(at))]
        spaces = question[len(question.rstrip()) :] + " "
        plain = [
            of_one(loaded.model, tokenizer, question.rstrip(), spaces + text, objective) for text in choices
        ]
        assert row["log_likelihoods"] == pytest.approx(plain, abs=1e-4)
        gold = ROWS["answer"][int(str(at))]
        assert row["nll"] == pytest.approx(-plain[gold] / len(spaces + choices[gold]), abs=1e-5)
        assert row["prediction"][0] == int(np.argmax(plain))
        assert row["prediction"][1] == int(np.argmax(np.array(plain) / [len(text) for text in choices]))
    assert list(frame["reference"]) == ROWS["answer"]


@torch.no_grad()
def of_one(model: Any, tokenizer: Any, context: str, text: str, objective: Choice) -> float:
    """A text's log-likelihood, token by token, one text at a time."""
    asked, wanted = tokenizer(context)["input_ids"], ids(text)
    if objective.decoder_start is None:
        asked = asked[:-1]  # the tokenizer's own end
        logits = model(torch.tensor([[*asked, *wanted]])).logits[0, len(asked) - 1 : -1]
    else:
        before = torch.tensor([[objective.decoder_start, *wanted[:-1]]])
        logits = model(input_ids=torch.tensor([asked]), decoder_input_ids=before).logits[0]
    return sum(float(row.double().log_softmax(-1)[token]) for row, token in zip(logits, wanted, strict=True))


def test_the_highest_sum_counts_and_by_characters_the_highest_share() -> None:
    found = judged([[-4.0, -3.0]], [["long text", "ab"]])
    assert found["prediction"].tolist() == [[1, 0]]
    assert found["nll"].tolist() == [4.0]
    assert found["score"].tolist() == [0.0]
    assert judged([[-4.0, -3.0]], [["long text", "ab"]], ("acc_norm", "acc"))["score"].tolist() == [1.0]
    assert Choice().score(found["prediction"], found["reference"]) == {"acc": 0.0, "acc_norm": 1.0}


def test_the_first_of_several_that_tie_counts_and_ties_are_said() -> None:
    found = judged(
        [[-5.0, -2.0, -2.00005], [-3.00001, -3.0, -9.0], [-1.0, -2.0, -3.0]], [["a", "b", "c"]] * 3
    )
    assert found["prediction"][:, 0].tolist() == [1, 0, 0]
    assert found["tied"].tolist() == [True, True, False]
    frame = pd.DataFrame({name: list(its) for name, its in found.items()})
    said = Choice().said_of_scores(frame)
    assert said == [
        "3 options an item: a guess among them is right in 33.3 %",
        "in 2 of 3 scored items options tie (within 0.0001 nats) for the best; the first of them counts",
    ]


def test_a_guess_is_one_over_the_options_of_each_item() -> None:
    found = judged([[-1.0, -2.0], [-1.0, -2.0, -3.0, -4.0]], [["a", "b"], ["a", "b", "c", "d"]])
    said = Choice().said_of_scores(pd.DataFrame({name: list(its) for name, its in found.items()}))
    assert said == ["2 to 4 options an item: a guess among them is right in 37.5 %"]


def test_the_best_constant_is_the_most_frequent_place() -> None:
    assert Choice().constant_score(np.array([0, 2, 2, 1])) == 0.5
    assert Choice().chance(np.array([0, 0, 1, 1])) == {"acc": 0.5, "acc_norm": 0.5}


def test_what_a_user_of_a_trained_model_must_know_is_said() -> None:
    joined, by = Choice(("acc_norm", "acc")).said_of_use(byte_tokenizer())
    assert "after one space" in joined and by.endswith(
        "log-likelihoods, divided by its number of characters."
    )
    assert Choice().said_of_use(byte_tokenizer())[1].endswith("log-likelihoods.")


def test_models_that_give_no_probability_to_a_text_are_refused() -> None:
    with pytest.raises(NotSupported, match="needs a decoder or an encoder-decoder"):
        Choice().head_for("sequence")
    assert [Choice().head_for(kind) for kind in ("causal", "seq2seq")] == ["causal", "seq2seq"]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [(("f1",), "unknown metric 'f1'"), ((), "needs a metric"), (("acc", "acc"), "each once")],
)
def test_metrics_are_checked(metrics: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Choice(metrics)


@pytest.mark.parametrize(
    ("question", "choices", "answer", "column", "said"),
    [
        (" ", ["a", "b"], 0, "question", "it is empty"),
        ("q", "ab", 0, "choices", "it must be a list of texts"),
        ("q", ["a", None], 0, "choices", "it must be a list of texts"),
        ("q", ["a"], 0, "choices", "it has 1 option; at least two are needed"),
        ("q", [], 0, "choices", "it has 0 options; at least two are needed"),
        ("q", ["a", " "], 0, "choices", "option 2 of 2 is empty"),
        ("q", ["a b", "c", "a  b "], 0, "choices", "two options are 'a b'"),
        ("q", ["a", "b"], 2, "answer", "2 is not an index into its 2 options"),
        ("q", ["a", "b"], -1, "answer", "-1 is not an index"),
        ("q", ["a", "b"], True, "answer", "True is not an index"),
        ("q", ["a", "b"], None, "answer", "None is not an index"),
    ],
)  # fmt: skip
def test_a_wrong_item_is_named(question: Any, choices: Any, answer: Any, column: str, said: str) -> None:
    wrong = wrong_item(question, choices, answer)
    assert wrong is not None and wrong[0] == column and wrong[1].startswith(said)
    rows = {"question": ["q", question], "choices": [["x", "y"], choices], "answer": [0, answer]}
    with pytest.raises(PeftbenchError, match=f"row 2 of train, column {column!r}"):
        Choice().check_rows(dict.fromkeys(("train", "validation", "test"), rows))
    if isinstance(question, str):
        with pytest.raises(PeftbenchError, match=column):
            Choice().encode(byte_tokenizer(), rows, 64)


def test_a_run_is_judged_by_what_it_chooses_and_not_by_the_likelihood_of_tokens() -> None:
    assert Choice().constant_loss(np.array([5, 5, 7])) is None
    assert Choice().constant_score(np.array([0, 1, 1, 2])) == 0.5
