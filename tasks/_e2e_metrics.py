"""The metrics of the E2E NLG challenge's own script (Dušek et al. 2020, tuetschek/e2e-metrics), by which papers report E2E.

CIDEr has its convention already. It can't be had for METEOR, which that script takes from a Java program.
"""

from __future__ import annotations

from functools import partial

from peftbench import TextMetric
from peftbench.objectives.text_metrics import (
    CaptionTokenizer,
    Floats,
    References,
    Texts,
    bleu,
    bleu_value,
    mean,
    nist,
    nist_value,
    scores,
)


def _rouge_l(hypotheses: Texts, references: References, beta: float = 1.2) -> Floats:
    """(items, 2): F of the highest precision and the highest recall, of two references if need be, and 1.

    So it can exceed its F with any one reference; `beta` weighs recall, as in pycocoevalcap's `Rouge`.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=CaptionTokenizer())

    def score(hypothesis: str, its: list[str]) -> float:
        found = [scorer.score(one, hypothesis)["rougeL"] for one in its]
        precision, recall = max(one.precision for one in found), max(one.recall for one in found)
        below = recall + beta**2 * precision
        return (1 + beta**2) * precision * recall / below if below else 0.0

    return scores(score, hypotheses, references)


BLEU = TextMetric("bleu_e2e", statistics=partial(bleu, lowercase=True), value=bleu_value)
NIST = TextMetric(
    "nist_e2e", is_share=False, unit="", statistics=partial(nist, pooled=True), value=nist_value
)
ROUGE_L = TextMetric("rouge_l_e2e", statistics=_rouge_l, value=mean)
METRICS: tuple[str | TextMetric, ...] = (BLEU, NIST, ROUGE_L, "cider")
