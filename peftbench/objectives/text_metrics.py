"""Corpus metrics of generated text against one or several references an item.

Each is split in two, so that a jackknife scores the texts once: `statistics` gives the numbers of each item, `(items, k)`,
and `value` makes the metric of their sum over the items that are kept, `(k,)`. Shares are fractions: a BLEU of .42.

A task brings a metric of its own as a `TextMetric`; what a variant of one here is made of is public.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from itertools import chain
from operator import or_

import numpy as np
import numpy.typing as npt

from ..errors import PeftbenchError
from .metric import Metric

Floats = npt.NDArray[np.float64]
Texts = Sequence[str]  # (items,)
References = Sequence[Sequence[str]]  # of each item, one or more
Grams = Counter[tuple[str, ...]]
Weights = dict[tuple[str, ...], float]
NIST_ORDER = 5  # longest n-gram, as in Doddington 2002
CIDER_ORDER = 4  # as in Vedantam et al. 2015
CIDER_SIGMA = 6.0  # words, of the penalty on a difference in length


@dataclass(frozen=True)
class TextMetric(Metric):
    """A corpus metric as a function of summed statistics. Shares are stored as fractions.

    `statistics` takes hypotheses and each one's references and gives `(items, k)`; `value` takes the `(k,)` sum.
    `unavailable` gives the reason why it can't be had on this machine, or None; `reads`, whether a text is in an alphabet of its own.
    """

    unit: str = "x100"
    statistics: Callable[[Texts, References], Floats] = field(kw_only=True)
    value: Callable[[Floats], float] = field(kw_only=True)
    unavailable: Callable[[], str | None] = field(default=lambda: None, kw_only=True)
    reads: Callable[[str], bool] = field(default=lambda text: True, kw_only=True)


def by_item(
    row: Callable[[str, list[str]], Sequence[float]], hypotheses: Texts, references: References
) -> Floats:
    """(items, k): `row` of each hypothesis and its references."""
    if not len(hypotheses) or not all(len(its) for its in references):
        raise ValueError("text metrics need at least one item, and a reference for each")
    pairs = zip(hypotheses, references, strict=True)
    return np.array([row(hypothesis, list(its)) for hypothesis, its in pairs], np.float64)


def scores(score: Callable[[str, list[str]], float], hypotheses: Texts, references: References) -> Floats:
    """(items, 2): `score` and 1, of a metric that is a mean over items."""
    return by_item(lambda text, its: (score(text, its), 1.0), hypotheses, references)


def mean(sums: Floats) -> float:
    """Of (the scores' sum, how many)."""
    return float(sums[0] / sums[1])


def bleu(
    hypotheses: Texts, references: References, lowercase: bool = False, tokenize: str | None = None
) -> Floats:
    """(items, 10): matches and n-grams of each order 1-4, length, length of the closest reference.

    Args:
        tokenize: sacrebleu's name of a tokenizer; None: its default, 13a.
    """
    from sacrebleu.metrics.bleu import BLEU

    # The order does not touch the counts; by default sacrebleu would warn of every item.
    metric = BLEU(lowercase=lowercase, tokenize=tokenize, effective_order=True)

    def row(hypothesis: str, its: list[str]) -> list[float]:
        found = metric.sentence_score(hypothesis, its)
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    return by_item(row, hypotheses, references)


def bleu_value(sums: Floats) -> float:
    """BLEU-4 (Papineni et al. 2002) with sacrebleu's default smoothing, which touches only orders without a match."""
    from sacrebleu.metrics.bleu import BLEU

    counts = [round(float(number)) for number in sums]
    return BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp").score / 100


def _chrf(hypotheses: Texts, references: References) -> Floats:
    """(items, 18): n-grams of the hypothesis, of its best reference, and matches, of each order 1-6 of characters."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()

    def row(hypothesis: str, its: list[str]) -> list[float]:
        # No public function gives its counts; this one and the one below are what sacrebleu's own bootstrap stands on.
        return list(metric._extract_corpus_statistics([hypothesis], [[one] for one in its])[0])

    return by_item(row, hypotheses, references)


def _chrf_value(sums: Floats) -> float:
    """chrF2 (Popović 2015), by sacrebleu."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF()._compute_score_from_stats([round(float(number)) for number in sums]).score / 100)


def _ter(hypotheses: Texts, references: References) -> Floats:
    """(items, 2): edits to the nearest reference, mean length of the references in words."""
    from sacrebleu.metrics.ter import TER

    metric = TER()

    def row(hypothesis: str, its: list[str]) -> list[float]:
        words = [text.lower().split() for text in its]  # as `metric` cuts them
        mine = hypothesis.lower().split()
        shared = [(Counter(mine) & Counter(one)).total() for one in words]
        # Shifts keep the words, so edits can't be fewer than this. On E2E it spares two of three slow searches.
        least = [max(len(mine), len(one)) - both for one, both in zip(words, shared, strict=True)]
        best = math.inf
        for bound, text in sorted(zip(least, its, strict=True)):
            if bound >= best:
                break
            best = min(best, metric.sentence_score(hypothesis, [text]).num_edits)
        return [best, float(np.mean([len(one) for one in words]))]

    return by_item(row, hypotheses, references)


def _ter_value(sums: Floats) -> float:
    """Edits a word of the references (Snover et al. 2006); above 1 where a text is worse than none."""
    edits, words = sums
    return float(edits / words) if words > 0 else float(edits > 0)


def _rouge(kind: str, hypotheses: Texts, references: References) -> Floats:
    """(items, 2): F1 with the reference where it is highest, and 1. Lower case, letters and digits, no stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind])
    return scores(lambda text, its: scorer.score_multi(its, text)[kind].fmeasure, hypotheses, references)


def _latin(text: str) -> bool:
    """Whether half of its letters or more are what ROUGE reads: it takes all others for space."""
    letters = [letter for letter in text if letter.isalnum()]
    return sum(letter.isascii() for letter in letters) >= len(letters) / 2


def nist(hypotheses: Texts, references: References, pooled: bool = False) -> Floats:
    """(items, 12): information matched and n-grams of each order 1-5, then lengths of references and hypothesis, x 5.

    The information of an n-gram comes from the references of all items given: of a subset it is another. In lower-case 13a
    tokens. An item's n-grams are matched with its best reference of each order, as nltk does; `pooled`, with any of its
    references, and its length is compared with their mean, as the E2E script does.
    """
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(lowercase=True).tokenizer

    @cache
    def grams(text: str) -> Grams:
        return _ngrams(tokenizer(text.lower()).split(), NIST_ORDER)

    often: Grams = Counter()
    for text in chain.from_iterable(references):
        often.update(grams(text))

    def matched(mine: Grams, its: Grams) -> list[float]:
        found = [0.0] * NIST_ORDER
        for gram, count in (mine & its).items():
            if gram:
                found[len(gram) - 1] += count * math.log2(often[gram[:-1]] / often[gram])
        return found

    def row(hypothesis: str, its: list[str]) -> list[float]:
        mine = grams(hypothesis)
        lengths = [grams(text)[()] for text in its]
        if pooled:
            gains = matched(mine, reduce(or_, map(grams, its)))
            length = NIST_ORDER * float(np.mean(lengths))
        else:
            by_order = zip(*(matched(mine, grams(text)) for text in its), strict=True)
            best = [max(zip(order, lengths, strict=True)) for order in by_order]
            gains, length = [gain for gain, _ in best], sum(words for _, words in best)
        totals = [max(mine[()] - order, 0) for order in range(NIST_ORDER)]
        return [*gains, *totals, length, NIST_ORDER * mine[()]]

    return by_item(row, hypotheses, references)


def nist_value(sums: Floats) -> float:
    """Information a matched n-gram, in bits, summed over orders, times a penalty on short texts (Doddington 2002)."""
    from nltk.translate.nist_score import nist_length_penalty

    gains, totals, (wanted, length) = sums[:NIST_ORDER], sums[NIST_ORDER:-2], sums[-2:]
    if not wanted:
        return 0.0
    precision = sum(gain / total for gain, total in zip(gains, totals, strict=True) if total)
    return float(precision * nist_length_penalty(float(wanted), float(length)))


def _no_wordnet() -> str | None:
    """Why METEOR can't be had, or None. Downloads nothing."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return "METEOR needs NLTK's WordNet: `python -m nltk.downloader wordnet`, or NLTK_DATA=FOLDER that holds it"
    return None


def _meteor(hypotheses: Texts, references: References) -> Floats:
    """(items, 2): METEOR with the reference where it is highest, and 1, by nltk (Lavie and Agarwal 2007).

    Not the METEOR 1.5 of the E2E and WebNLG scripts, which has other weights and paraphrases: never compare the two.
    """
    if reason := _no_wordnet():
        raise PeftbenchError(reason)
    from nltk.translate.meteor_score import meteor_score

    cut = CaptionTokenizer().tokenize
    return scores(lambda text, its: meteor_score([*map(cut, its)], cut(text)), hypotheses, references)


class CaptionTokenizer:
    """Lower-case words without punctuation, `don't` as `do n't`: on E2E, Stanford's PTB tokens but for 1 text in 600."""

    WORD = re.compile(r"\w+(?=n't)|n't|'(?:s|m|d|re|ve|ll)\b|\w+(?:[-.]\w+)*|[^\w\s.,;:!?'\"()-]")

    def tokenize(self, text: str) -> list[str]:
        return self.WORD.findall(text.lower().replace("’", "'"))


def _ngrams(words: Sequence[str], longest: int) -> Grams:
    """How often each run of 1 to `longest` words occurs; under the empty one, how many words there are."""
    runs = [tuple(words[at : at + n]) for n in range(1, longest + 1) for at in range(len(words) - n + 1)]
    return Counter({**Counter(runs), (): len(words)})


def _cider(hypotheses: Texts, references: References) -> Floats:
    """(items, 2): CIDEr-D of 0 to 10 (Vedantam et al. 2015), as pycocoevalcap's `Cider` gives it, and 1.

    The mean over references and orders 1-4 of the cosine of tf-idf vectors, clipped at the reference's, times a Gaussian of
    the difference in length. Document frequencies count items of those given: of a subset they are others, and of
    one item alone all is 0. In lower-case words without punctuation, not stemmed.
    """

    @cache
    def grams(text: str) -> Grams:
        return _ngrams(CaptionTokenizer().tokenize(text), CIDER_ORDER)

    items_with = Counter(gram for its in references for gram in set().union(*map(grams, its)))

    def product(one: Weights, other: Weights) -> Floats:
        """Of each order: (4,)."""
        found = np.zeros(CIDER_ORDER)
        for gram, weight in one.items():
            clip = other.get(gram, 0.0)
            found[len(gram) - 1] += min(weight, clip) * clip
        return found

    @cache
    def weighed(text: str) -> tuple[Weights, Floats]:
        rarity = {gram: math.log(len(references) / max(1, items_with[gram])) for gram in grams(text) if gram}
        weights = {gram: grams(text)[gram] * weight for gram, weight in rarity.items()}
        return weights, np.sqrt(product(weights, weights))

    def similarity(one: str, other: str) -> float:
        (mine, my_norms), (its, its_norms) = weighed(one), weighed(other)
        norms = my_norms * its_norms
        cosine = float(np.mean(product(mine, its) / np.where(norms > 0, norms, 1)))
        return cosine * math.exp(-((grams(one)[()] - grams(other)[()]) ** 2) / (2 * CIDER_SIGMA**2))

    return scores(
        lambda text, its: 10 * sum(similarity(text, one) for one in its) / len(its), hypotheses, references
    )


def _exact(text: str, its: list[str]) -> bool:
    """Whether it is one of its references, whatever the white space between words is: some tokenizers have one kind alone."""
    return text.split() in [one.split() for one in its]


TEXT_METRICS = {  # the general ones, which a SPEC names; a task may bring its own
    metric.name: metric
    for metric in (
        TextMetric("bleu", statistics=bleu, value=bleu_value),
        TextMetric("nist", is_share=False, unit="", statistics=nist, value=nist_value),
        TextMetric("meteor", statistics=_meteor, value=mean, unavailable=_no_wordnet),
        TextMetric("rouge_l", statistics=partial(_rouge, "rougeL"), value=mean, reads=_latin),
        TextMetric("rouge_1", statistics=partial(_rouge, "rouge1"), value=mean, reads=_latin),
        TextMetric("rouge_2", statistics=partial(_rouge, "rouge2"), value=mean, reads=_latin),
        TextMetric("cider", is_share=False, unit="", statistics=_cider, value=mean),
        TextMetric("chrf", statistics=_chrf, value=_chrf_value),
        TextMetric("ter", higher_is_better=False, statistics=_ter, value=_ter_value),
        TextMetric("exact_match", unit="%", statistics=partial(scores, _exact), value=mean),
    )
}
