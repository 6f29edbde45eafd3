"""How large a rank is needed, on classification. Hu et al. 2021, table 6 (section 7.2)."""

from __future__ import annotations

from dataclasses import replace

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, Picture, Statement, above, inside

from ._drawing import Chart, charts, line
from ._score_table import caption, score_table
from ._scored import ATTENTION, Arm, Scored, statement, train_all

Q, QV, ALL = "query", "query+value", "query+key+value+attention_output"
NAMES = {Q: "Wq", QV: "Wq Wv", ALL: "all four"}
RANKS = (1, 2, 4, 8, 64)
RATE = 2e-3  # of the first panel: the preset of rank 8 for all, as the paper has one rate for all ranks
MARGIN = 0.01
PRINTED = {
    ("Wq", 1): ("68.8", "90.7"), ("Wq", 2): ("69.6", "90.9"), ("Wq", 4): ("70.5", "91.1"), ("Wq", 8): ("70.4", "90.7"),
    ("Wq", 64): ("70.0", "90.7"),
    ("Wq Wv", 1): ("73.4", "91.3"), ("Wq Wv", 2): ("73.3", "91.4"), ("Wq Wv", 4): ("73.7", "91.3"),
    ("Wq Wv", 8): ("73.8", "91.6"), ("Wq Wv", 64): ("73.5", "91.4"),
    ("all four", 1): ("74.1", "91.2"), ("all four", 2): ("73.7", "91.7"), ("all four", 4): ("74.0", "91.7"),
    ("all four", 8): ("74.0", "91.5"), ("all four", 64): ("73.9", "91.4"),
}  # fmt: skip
PLACES = {"cpu": (Q, QV), "small": (Q, QV, ALL), "full": (Q, QV, ALL)}
# Of the second panel, a rate for each rank.
TUNED_PLACES = {"cpu": (QV,), "small": (Q, QV, ALL), "full": (Q, QV, ALL)}


def label_of(place: str, rank: int, tuned: bool = False) -> str:
    """A row's name."""
    return f"{NAMES[place]}, r = {rank}" + (", own rate" if tuned else "")


@experiment("table6", title="How large a rank is needed, on classification")
def table6(asked: Asked) -> Page:
    """Ranks with one learning rate for all, and with one each."""
    fixed = [
        Arm(label_of(p, r), f"lora:rank={r}:targets={p}", learning_rate=RATE)
        for p in PLACES[asked.scale]
        for r in RANKS
    ]
    own = [
        Arm(label_of(p, r, True), f"lora:rank={r}:targets={p}")
        for p in TUNED_PLACES[asked.scale]
        for r in RANKS
    ]
    columns = ATTENTION[asked.scale]
    first = train_all(asked, {name: replace(setting, tune=0) for name, setting in columns.items()}, fixed)
    second = train_all(asked, columns, own)
    printed = {
        label_of(p, r, tuned): PRINTED[NAMES[p], r] for p in NAMES for r in RANKS for tuned in (False, True)
    }
    headers = ("WikiSQL (±0.5)", "MNLI (±0.1)")
    return Page(
        "Table 6: rank",
        f"{caption(first)} Second panel: {next(iter(second.values())).setting.budget}.",
        (
            score_table("The paper's protocol: one learning rate for all ranks", [a.label for a in fixed], first, printed, headers),
            score_table("A learning rate for each rank", [a.label for a in own], second, printed, headers),
        ),
        tuple(s for name in columns for s in statements(name, first[name], second[name], asked.scale)),
        (
            "GPT-3 is not public: another model; on a CPU another task.",
            "alpha is 16 at every rank, so that alpha / r falls with the rank; the paper sets alpha once and does not tune it.",
            *(["The ranks of all four matrices are left out, and rates are found for Wq Wv alone."] if asked.scale == "cpu" else []),
        ),
        (Picture("Score over rank", _picture(first, second, asked.scale)),),
    )  # fmt: skip


def statements(name: str, fixed: Scored, own: Scored, scale: str) -> list[Statement]:
    """Of one task; with the paper's protocol, and with a rate for each rank."""
    made = [
        statement(
            f"On Wq alone a rank of one is too little, {name}",
            "r = 4 minus r = 1 is above 0, one rate for all",
            fixed.difference(label_of(Q, 4), label_of(Q, 1)),
            lambda found: above(found, 0.0),
        )
    ]
    for tuned, one in ((False, fixed), (True, own)):
        how = "a rate each" if tuned else "one rate for all"
        made += [
            statement(
                f"A rank of 64 is as good as one of 4, to a point, {how}, {name}",
                f"the difference on Wq and Wv lies within ±{MARGIN * 100:g} point",
                one.difference(label_of(QV, 64, tuned), label_of(QV, 4, tuned)),
                lambda found: inside(found, MARGIN),
            ),
            statement(
                f"A rank as small as one suffices on Wq and Wv, {how}, {name}",
                f"r = 1 minus r = 8 is above -{MARGIN * 100:g} point",
                one.difference(label_of(QV, 1, tuned), label_of(QV, 8, tuned)),
                lambda found: above(found, -MARGIN),
            ),
        ]
    return made


def _picture(fixed: dict[str, Scored], own: dict[str, Scored], scale: str) -> str:
    panels = []
    for name, of_fixed in fixed.items():
        lines = []
        for tuned, one, places in (
            (False, of_fixed, PLACES[scale]),
            (True, own[name], TUNED_PLACES[scale]),
        ):
            for place in places:
                points = [(r, e) for r in RANKS if (e := one.score(label_of(place, r, tuned))) is not None]
                label = NAMES[place] + (", own rate" if tuned else ", one rate")
                lines.append(line(label, points, one.percent, dashed=tuned))
        panels.append(Chart(name, "rank r", of_fixed.shown(), tuple(lines), log_x=True))
    return charts(panels)
