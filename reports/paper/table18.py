"""How large a rank is needed, on generation. Hu et al. 2021, table 18 (appendix H.2)."""

from __future__ import annotations

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, Picture, Statement, above, inside

from ._drawing import Chart, charts, line
from ._generation import CPU_CAPTION, columns_of, metrics_of
from ._score_table import caption, score_table
from ._scored import Arm, Scored, statement, train_all

RANKS = {"cpu": (1, 4, 16, 64, 256), "small": (1, 4, 16, 64, 256), "full": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)}  # fmt: skip
# Validation loss, BLEU, NIST, METEOR, ROUGE-L, CIDEr of GPT-2 medium after 26,000 steps.
PRINTED = {
    1: ("1.23", "68.72", "8.7215", ".4565", ".7052", "2.4329"), 2: ("1.21", "69.17", "8.7413", ".4590", ".7052", "2.4639"),
    4: ("1.18", "70.38", "8.8439", ".4689", ".7186", "2.5349"), 8: ("1.17", "69.57", "8.7457", ".4636", ".7196", "2.5196"),
    16: ("1.16", "69.61", "8.7483", ".4629", ".7177", "2.4985"), 32: ("1.16", "69.33", "8.7736", ".4642", ".7105", "2.5255"),
    64: ("1.16", "69.24", "8.7174", ".4651", ".7180", "2.5070"), 128: ("1.16", "68.73", "8.6718", ".4628", ".7127", "2.5030"),
    256: ("1.16", "68.92", "8.6982", ".4629", ".7128", "2.5012"), 512: ("1.16", "68.78", "8.6857", ".4637", ".7128", "2.5025"),
    1024: ("1.17", "69.37", "8.7495", ".4659", ".7149", "2.5090"),
}  # fmt: skip
MARGIN = 0.01  # of the first metric


def label_of(rank: int) -> str:
    """A row's name."""
    return f"r = {rank}"


@experiment("table18", title="How large a rank is needed, on generation")
def table18(asked: Asked) -> Page:
    """Ranks with one learning rate for all, as in the paper."""
    ranks = RANKS[asked.scale]
    arms = [Arm(label_of(rank), f"lora:rank={rank}:targets=query+value") for rank in ranks]
    found = train_all(asked, columns_of(asked), arms)
    printed = {label_of(rank): texts for rank, texts in PRINTED.items()}
    one = next(iter(found.values()))
    return Page(
        "Table 18: rank, on generation",
        caption(found) + (f" {CPU_CAPTION}" if asked.scale == "cpu" else ""),
        (
            score_table("Score; nll is the loss on the test references", [arm.label for arm in arms], found, printed, ("validation loss", "BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"), metrics_of),
        ),
        tuple(s for name, column in found.items() for s in statements(name, column, ranks)),
        (
            "The paper tuned everything else at r = 4, with alpha 32 and 26,000 steps; here one preset rate serves all ranks, alpha is 16.",
            "The paper prints the loss on validation; here it is that on the scored test references.",
            *(["Another model; without --data-dir another task."] if asked.scale == "cpu" else []),
        ),
        (Picture("First metric and loss over rank", _picture(one, ranks)),),
    )  # fmt: skip


def statements(name: str, one: Scored, ranks: tuple[int, ...]) -> list[Statement]:
    """By the first metric, and by the loss."""
    metric = one.metric["name"]
    return [
        statement(
            f"A rank of one has a larger loss than one of 64, {name}",
            "nll at r = 1 minus nll at r = 64 is above 0, paired",
            one.difference(label_of(1), label_of(64), "nll"),
            lambda found: above(found, 0.0),
            1.0,
            "nats",
            digits=2,
        ),
        statement(
            f"A rank of 64 writes as well as one of 4, to a point, {name}",
            f"the difference in {metric} lies within ±{MARGIN * one.percent:g}",
            one.difference(label_of(64), label_of(4)),
            lambda found: inside(found, MARGIN),
            one.percent,
        ),
        statement(
            f"The largest rank is no better than one of 4, {name}",
            f"r = 4 minus r = {ranks[-1]} in {metric} is above -{MARGIN * one.percent:g}",
            one.difference(label_of(4), label_of(ranks[-1])),
            lambda found: above(found, -MARGIN),
            one.percent,
        ),
    ]


def _picture(one: Scored, ranks: tuple[int, ...]) -> str:
    panels = []
    for metric, percent in ((one.metric["name"], one.percent), ("nll", 1.0)):
        points = [(rank, e) for rank in ranks if (e := one.score(label_of(rank), metric)) is not None]
        panels.append(Chart("", "rank r", one.shown(metric), (line(metric, points, percent),), log_x=True))
    return charts(panels)
