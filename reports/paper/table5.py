"""Which weight matrices of attention to adapt, with the same number of trained numbers. Hu et al. 2021, table 5 (section 7.1)."""

from __future__ import annotations

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, Statement, above, picked
from peftbench.stats.estimate import Estimate

from ._score_table import caption, score_table
from ._scored import ATTENTION, Arm, Scored, statement, train_all

Q, K, V, O = "query", "key", "value", "attention_output"
ARMS = (
    Arm("Wq, r = 8", f"lora:rank=8:targets={Q}"),
    Arm("Wk, r = 8", f"lora:rank=8:targets={K}"),
    Arm("Wv, r = 8", f"lora:rank=8:targets={V}"),
    Arm("Wo, r = 8", f"lora:rank=8:targets={O}"),
    Arm("Wq Wk, r = 4", f"lora:rank=4:targets={Q}+{K}"),
    Arm("Wq Wv, r = 4", f"lora:rank=4:targets={Q}+{V}"),
    Arm("all four, r = 2", f"lora:rank=2:targets={Q}+{K}+{V}+{O}"),
)
SINGLE = tuple(arm.label for arm in ARMS[:4])
PRINTED = dict(
    zip(
        (arm.label for arm in ARMS),
        (
            ("70.4", "91.0"), ("70.0", "90.8"), ("73.0", "91.0"), ("73.2", "91.3"), ("71.4", "91.3"), ("73.7", "91.3"),
            ("73.7", "91.7"),
        ),
        strict=True,
    )
)  # fmt: skip
MARGIN = 0.005  # half a point, GPT-3's fluctuation on WikiSQL


@experiment("table5", title="Which weight matrices to adapt, at a fixed number of trained numbers")
def table5(asked: Asked) -> Page:
    """Seven ways to spend the same numbers."""
    found = train_all(asked, ATTENTION[asked.scale], ARMS)
    return Page(
        "Table 5: which weight matrices",
        caption(found),
        (
            score_table(
                "Accuracy", [arm.label for arm in ARMS], found, PRINTED, ("WikiSQL (±0.5)", "MNLI (±0.1)")
            ),
        ),
        tuple(s for name, one in found.items() for s in statements(name, one)),
        (
            "GPT-3 is not public: another model; on a CPU another task.",
            "The paper has one learning rate for all; here each cell has its own, found on validation with the same number of trials.",
            "alpha is 16 in every cell, so that the scale alpha / r is larger at smaller ranks; the cell's own rate makes up for it.",
        ),
    )


def statements(name: str, one: Scored) -> list[Statement]:
    """Of one task."""
    means = {label: found.value for label in SINGLE if (found := one.score(label)) is not None}
    best = max(means, key=lambda label: means[label]) if means else SINGLE[0]

    def positive(found: Estimate) -> tuple[float | None, float | None]:
        return above(found, 0.0)

    return [
        statement(
            f"Adapting Wq and Wv beats Wq alone, {name}",
            "the paired difference is above 0",
            one.difference("Wq Wv, r = 4", "Wq, r = 8"),
            positive,
        ),
        statement(
            f"Adapting Wq and Wv beats Wk alone, {name}",
            "the paired difference is above 0",
            one.difference("Wq Wv, r = 4", "Wk, r = 8"),
            positive,
        ),
        statement(
            f"More matrices at a smaller rank are at least as good as one at a larger, {name}",
            f"all four minus the best single ({best}) is above -{MARGIN * 100:g} points; against it, p times the singles",
            one.difference("all four, r = 2", best),
            lambda found: picked(above(found, -MARGIN), contradicts=len(SINGLE)),
        ),
    ]
