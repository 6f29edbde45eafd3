"""Quality over the number of trained numbers, for every method. Hu et al. 2021, table 15 and figure 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, Picture, Sides, Statement, above, picked
from peftbench.stats.estimate import Estimate

from ._drawing import Chart, charts, line
from ._score_table import caption, score_table
from ._scored import Arm, Scored, Setting, statement, train

SWEEPS = {  # by what the paper calls it: SPEC with its size left open, and the sizes of each scale
    "PreEmbed": (
        "prefix-embed:prefix={}:infix=8",
        {"cpu": (2, 8, 32), "small": (32, 64, 128, 256), "full": (32, 64, 128, 256, 512)},
    ),
    "PreLayer": (
        "prefix-layer:prefix={}:infix=0",
        {"cpu": (2, 8, 32), "small": (2, 8, 32, 64), "full": (2, 8, 32, 64)},
    ),
    "AdapterH": (
        "adapter-h:bottleneck={}",
        {"cpu": (1, 64), "small": (1, 4, 16, 64), "full": (1, 4, 8, 16, 64)},
    ),
    "LoRA": (
        "lora:rank={}:targets=query+value",
        {"cpu": (1, 64), "small": (1, 4, 8, 64), "full": (1, 2, 4, 8, 64)},
    ),
}
PREFIXES = ("PreEmbed", "PreLayer")  # their learning rate is found for each length
PRINTED = {
    ("PreEmbed", 32): ("55.9", "84.9"), ("PreEmbed", 64): ("58.7", "88.1"), ("PreEmbed", 128): ("60.6", "88.0"),
    ("PreEmbed", 256): ("63.1", "88.6"), ("PreEmbed", 512): ("55.9", "85.8"),
    ("PreLayer", 2): ("68.5", "89.2"), ("PreLayer", 8): ("69.8", "88.2"), ("PreLayer", 32): ("66.4", "89.6"),
    ("PreLayer", 64): ("64.9", "87.9"),
    ("AdapterH", 1): ("71.9", "89.8"), ("AdapterH", 4): ("73.2", "91.0"), ("AdapterH", 8): ("73.2", "91.5"),
    ("AdapterH", 16): ("73.2", "91.5"), ("AdapterH", 64): ("72.6", "91.5"),
    ("LoRA", 1): ("73.4", "91.3"), ("LoRA", 2): ("73.3", "91.4"), ("LoRA", 4): ("73.7", "91.3"), ("LoRA", 8): ("73.8", "91.6"),
    ("LoRA", 64): ("73.6", "91.4"),
}  # fmt: skip
MARGIN = 0.01
SETTINGS = {
    "cpu": Setting("minilm-l6", "newsgroups:inputs=400", steps=40, batch_size=12, max_length=24),
    "small": Setting("FacebookAI/roberta-base", "glue-mnli", steps=500, batch_size=32),
    "full": Setting("openai-community/gpt2-xl", "glue-mnli", epochs=2.0, batch_size=128, max_length=768),
}
RATES = 3  # tried for each length of a prefix


def sizes_of(name: str, scale: str) -> tuple[int, ...]:
    """Of a sweep, smallest first."""
    return SWEEPS[name][1][scale]


def label_of(name: str, size: int) -> str:
    """A row's name."""
    return f"{name}, {size}"


@experiment("table15", title="The sweep over sizes, and figure 2's curve")
def table15(asked: Asked) -> Page:
    """Every method over its sizes."""
    arms = {
        name: [Arm(label_of(name, size), spec.format(size)) for size in sizes_of(name, asked.scale)]
        for name, (spec, _) in SWEEPS.items()
    }
    setting = SETTINGS[asked.scale]
    tuned = dataclasses.replace(setting, tune=RATES)
    of_prefixes = train(asked, tuned, [arm for name in PREFIXES for arm in arms[name]])
    others = train(asked, setting, [arm for name in arms if name not in PREFIXES for arm in arms[name]])
    one = Scored(
        others.setting,
        {**of_prefixes.results, **others.results},
        {**of_prefixes.reasons, **others.reasons},
        {**of_prefixes.rates, **others.rates},
        {**of_prefixes.scores, **others.scores},
        {**of_prefixes.runs, **others.runs},
        others.most_frequent,
    )
    column = {f"{setting.task.partition(':')[0]}" + (" (for MNLI)" if asked.scale == "cpu" else ""): one}
    labels = [arm.label for of_name in arms.values() for arm in of_name]
    printed = {label_of(name, size): texts for (name, size), texts in PRINTED.items()}
    return Page(
        "Table 15 and figure 2: quality over the number of trained numbers",
        caption(column) + f" {RATES} learning rates, more at an edge, are tried on validation for each length of a prefix; others have their presets.",
        (score_table("Score by size (prefix length, bottleneck or rank)", labels, column, printed, ("WikiSQL", "MNLI-m")),),
        tuple(statements(one, asked.scale)),
        (
            "GPT-3 is not public: another model and task. The paper has one learning rate a method; prefixes have one a length here, or a fall could be the rate's.",
            "Printed beside a size are the paper's figures for the same prefix length, bottleneck or rank, in a far larger model, some with an infix of another length.",
            *(["Lengths reach past the texts; 10 points."] if asked.scale == "cpu" else []),
        ),
        (Picture("Score over the number of trained numbers, as figure 2", _picture(one, arms)),),
    )  # fmt: skip


def statements(one: Scored, scale: str) -> list[Statement]:
    """Prefixes fall, LoRA does not."""
    made = []
    for name in PREFIXES:
        sizes = sizes_of(name, scale)
        means = {size: found.value for size in sizes[:-1] if (found := one.score(label_of(name, size)))}
        best = max(means, key=lambda size: means[size]) if means else sizes[0]
        made.append(
            statement(
                f"{name} is not monotone in its size: it falls at the largest",
                f"the best smaller length ({best}) minus the largest ({sizes[-1]}) is above 0, a rate for each; p times the lengths that it is the best of",
                one.difference(label_of(name, best), label_of(name, sizes[-1])),
                positive(confirms=len(means)),
            )
        )
    for name in ("LoRA", "AdapterH"):
        sizes = sizes_of(name, scale)
        made.append(
            statement(
                f"{name} does not fall at its largest size",
                f"the largest ({sizes[-1]}) minus the smallest ({sizes[0]}) is above -{MARGIN * 100:g} point",
                one.difference(label_of(name, sizes[-1]), label_of(name, sizes[0])),
                lambda found: above(found, -MARGIN),
            )
        )
    for name in PREFIXES:
        made.append(
            statement(
                f"LoRA is better than {name} already at its smallest size",
                f"LoRA's smallest minus {name}'s best length is above 0; against it, p times the lengths",
                one.difference(label_of("LoRA", sizes_of("LoRA", scale)[0]), _best(one, name, scale)),
                positive(contradicts=len(sizes_of(name, scale))),
            )
        )
    return made


def positive(confirms: int = 1, contradicts: int = 1) -> Callable[[Estimate], Sides]:
    """Above 0, where a best of so many was picked on the way."""
    return lambda found: picked(above(found, 0.0), confirms, contradicts)


def _best(one: Scored, name: str, scale: str) -> str:
    scored = {s: found.value for s in sizes_of(name, scale) if (found := one.score(label_of(name, s)))}
    size = max(scored, key=lambda s: scored[s]) if scored else sizes_of(name, scale)[0]
    return label_of(name, size)


def _picture(one: Scored, arms: dict[str, list[Arm]]) -> str:
    lines = []
    for name, of_name in arms.items():
        points = [
            (count, e)
            for arm in of_name
            if (e := one.score(arm.label)) is not None and (count := one.trained(arm.label))
        ]
        lines.append(line(name, points, one.percent))
    return charts([Chart("", "numbers that train", one.shown(), tuple(lines), log_x=True)])
