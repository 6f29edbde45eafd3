"""Metrics of generated text against the libraries they come from, and against numbers worked out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from peftbench.errors import PeftbenchError
from peftbench.objectives.text_metrics import TEXT_METRICS, TextMetric
from peftbench.plugins.build import build_task
from peftbench.records.record import between_0_and_1

HYPOTHESES = [
    "The Blue Spice is a cheap coffee shop near Café Sicilia, in the city centre.",
    "It's located in the riverside area; meals cost £20-25. It isn't family-friendly!",
    "the eagle serves English food",
    "",
    "Strada Strada",
    "In the riverside area there is a pub called The Mill which serves Thai food.",
    "The Mill is a pub by the river.",
]
REFERENCES = [
    [
        "Blue Spice is a cheap coffee shop in the city centre, near Café Sicilia.",
        "In the city centre, near Café Sicilia, is the coffee shop The Blue Spice.",
        "A coffee shop",
    ],
    ["It is in the riverside area, costs £20-25 and isn't family-friendly.", "Riverside meals for £20-25!"],
    ["The Eagle serves English food."],
    ["Not one word was written of this one.", "Nothing was written of this one at all."],
    ["Strada has a low customer rating.", "A rating of 1 out of 5: Strada."],
    ["The Mill is a pub which serves Thai food in the riverside area.", "The Mill: a pub with Thai food."],
    ["The Mill is a pub by the river.", "By the river, there is a pub."],
]
CORPUS_WEIGHTS = {"nist", "nist_e2e", "cider"}
WITH_THEIR_OWN = ("e2e-nlg", "webnlg", "wikisql")  # tasks
BROUGHT = [m for task in WITH_THEIR_OWN for m in build_task(task).objective.reported]
METRICS = TEXT_METRICS | {m.name: m for m in BROUGHT if isinstance(m, TextMetric)}
HERE = [name for name in METRICS if name != "meteor"]  # it has tests of its own


def value(name: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    metric = METRICS[name]
    return metric.value(metric.statistics(hypotheses, references).sum(0))


def made(items: int) -> tuple[list[str], list[list[str]]]:
    """Texts of few words, so that they match in part and out of order; one to four references each."""
    words = ("the", "pub", "The", "Mill", "serves", "cheap", "food,", "near", "river.")
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(words, k=draw.randint(4, 9)))

    return [text() for _ in range(items)], [[text() for _ in range(draw.randint(1, 4))] for _ in range(items)]


def sacrebleu_score(metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Its corpus score as a share; it wants the references the other way round, None where there are no more."""
    return float(
        metric.corpus_score(list(hypotheses), [list(nth) for nth in zip_longest(*references)]).score / 100
    )


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize(
    "texts",
    [(HYPOTHESES, REFERENCES), made(40), (["the pub by a river"], [["the pub near a river", "a pub"]])],
    ids=["sentences", "made", "no four in a row"],
)
def test_sacrebleus_corpus_scores(name: str, texts: tuple[list[str], list[list[str]]]) -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    metric = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}[name]
    wanted = sacrebleu_score(metric, *texts)
    assert 0 < wanted < 1
    assert value(name, *texts) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name, kind", [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_is_the_mean_of_the_best_references(name: str, kind: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind])
    best = [
        max(scorer.score(one, text)[kind].fmeasure for one in its)
        for text, its in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    assert value(name, HYPOTHESES, REFERENCES) == pytest.approx(np.mean(best), rel=1e-12)


@pytest.mark.parametrize("texts", [(HYPOTHESES, REFERENCES), made(40)], ids=["sentences", "made"])
def test_nist_is_nltks(texts: tuple[list[str], list[list[str]]]) -> None:
    from nltk.translate.nist_score import corpus_nist
    from sacrebleu.metrics.bleu import BLEU

    cut = BLEU(lowercase=True).tokenizer
    hypotheses = [cut(text.lower()).split() for text in texts[0]]
    references = [[cut(text.lower()).split() for text in its] for its in texts[1]]
    assert value("nist", *texts) == pytest.approx(corpus_nist(references, hypotheses), rel=1e-12)


def test_cider_by_hand() -> None:
    # Items share no word, so each weighs log 2, which cancels in a cosine.
    hypotheses = ["a b c d", "x y"]
    references = [["A b c, d."], ["x y z w"]]
    partial = (2 / math.sqrt(2 * 4) + 1 / math.sqrt(1 * 3)) / 4 * math.exp(-(2**2) / (2 * 6**2))
    found = TEXT_METRICS["cider"].statistics(hypotheses, references)
    assert found == pytest.approx(np.array([[10, 1], [10 * partial, 1]]))
    assert value("cider", hypotheses, references) == pytest.approx((10 + 10 * partial) / 2)


def test_cider_clips_averages_references_and_ignores_what_every_item_has() -> None:
    rows = TEXT_METRICS["cider"].statistics(["e e", "q p"], [["e f", "g h"], ["p q"]])[:, 0]
    # `e e` against `e f`: min(2, 1) * 1 / (2 * sqrt 2) in one order of four; nothing against `g h`.
    assert rows[0] == pytest.approx(10 / (2 * math.sqrt(2)) / 4 / 2)
    assert rows[1] == pytest.approx(10 * 1 / 4)  # both words, not their order
    shared = TEXT_METRICS["cider"].statistics(["the", "the e"], [["the a"], ["the e"]])[:, 0]
    assert shared == pytest.approx([0, 10 * (1 + 1) / 4])


def test_exact_match() -> None:
    assert between_0_and_1(TEXT_METRICS["exact_match"].facts)  # of items: none of ten is not 0 +- 0
    assert value("exact_match", [" a b ", "a", "b"], [["c", "a b"], ["A"], ["b"]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", HERE)
def test_a_perfect_text_has_the_best_value(name: str) -> None:
    texts = ["One two three four five.", "Six seven eight nine ten eleven."]
    references = [[text, "other"] for text in texts]
    found = value(name, texts, references)
    if name in CORPUS_WEIGHTS:
        assert found > value(name, [texts[0], "Six seven eight nine nine nine."], references) > 0
    else:
        assert found == pytest.approx(float(METRICS[name].higher_is_better))


@pytest.mark.parametrize("name", HERE)
def test_the_order_of_items_does_not_matter(name: str) -> None:
    hypotheses, references = made(20)
    rows = METRICS[name].statistics(hypotheses, references)
    back = METRICS[name].statistics(hypotheses[::-1], references[::-1])
    assert rows.ndim == 2 and rows.dtype == np.float64
    assert back[::-1] == pytest.approx(rows)


@pytest.mark.parametrize("name", HERE)
def test_items_left_out_leave_the_rows_of_the_others(name: str) -> None:
    hypotheses, references = made(20)
    metric = METRICS[name]
    rows = metric.statistics(hypotheses, references)
    kept = metric.statistics(hypotheses[7:], references[7:])
    if name in CORPUS_WEIGHTS:  # its weights then come from fewer references
        assert not np.allclose(kept, rows[7:])
        assert math.isfinite(metric.value(rows[7:].sum(0)))
    else:
        assert metric.value(rows.sum(0) - rows[:7].sum(0)) == pytest.approx(metric.value(kept.sum(0)))
        assert kept == pytest.approx(rows[7:])


@pytest.mark.parametrize("name", HERE)
def test_empty_texts(name: str) -> None:
    worst = 0.0 if METRICS[name].higher_is_better else 1.0
    assert value(name, ["", "  "], [["a b c d", "e f g h"], ["i j"]]) == worst
    assert math.isfinite(value(name, ["", "a b"], [[""], ["a b", ""]]))


@pytest.mark.parametrize("name", HERE)
def test_what_can_not_be_scored(name: str) -> None:
    assert METRICS[name].unavailable() is None
    with pytest.raises(ValueError, match="a reference for each"):
        METRICS[name].statistics(["a", "b"], [["a"], []])
    with pytest.raises(ValueError):
        METRICS[name].statistics(["a"], [["a"], ["b"]])


def test_meteor_is_nltks() -> None:
    if reason := TEXT_METRICS["meteor"].unavailable():
        pytest.skip(reason)
    from nltk.translate.meteor_score import meteor_score

    texts, references = (
        ["a cheap restaurant", "", "Pubs, nearby!"],
        [["an inexpensive eatery", "a pub"], ["a"], ["a pub"]],
    )
    wanted = [
        meteor_score([["an", "inexpensive", "eatery"], ["a", "pub"]], ["a", "cheap", "restaurant"]),
        0.0,
        meteor_score([["a", "pub"]], ["pubs", "nearby"]),
    ]
    assert wanted[0] > 0.2 and wanted[2] > 0  # a synonym and a stem
    assert value("meteor", texts, references) == pytest.approx(np.mean(wanted))


def test_meteor_without_its_data_says_so_and_gives_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.corpus

    def absent() -> None:
        raise LookupError("Resource 'wordnet' not found")

    monkeypatch.setattr(nltk.corpus, "wordnet", SimpleNamespace(ensure_loaded=absent))
    reason = TEXT_METRICS["meteor"].unavailable()
    assert reason is not None and "WordNet" in reason and "\n" not in reason
    with pytest.raises(PeftbenchError, match="WordNet"):
        TEXT_METRICS["meteor"].statistics(["a"], [["a"]])
