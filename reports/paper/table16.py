"""Few items to train on. Hu et al. 2021, table 16 (appendix F.3)."""

from __future__ import annotations

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, Picture, Statement, above

from ._drawing import Chart, charts, line
from ._score_table import caption, score_table
from ._scored import Arm, Scored, Setting, statement, train_all

FULL, EMBED, LAYER, LORA = "FT", "PreEmbed", "PreLayer", "LoRA"
METHODS = {
    FULL: "full",
    EMBED: "prefix-embed:prefix=16:infix=8",
    LAYER: "prefix-layer:prefix=8:infix=8",
    LORA: "lora:rank=8:targets=query+value",
}
SIZES = {"cpu": (100, 1000, None), "small": (100, 1000, 10_000), "full": (100, 1000, 10_000, None)}
PRINTED = {
    FULL: ("60.2", "85.8", "88.9", "89.5"),
    EMBED: ("37.6", "75.2", "79.5", "88.6"),
    LAYER: ("48.3", "82.5", "85.9", "89.6"),
    LORA: ("63.8", "85.6", "89.2", "91.7"),
}
MARGIN = 0.01
SETTINGS = {
    "cpu": Setting("minilm-l6", "newsgroups:inputs=600", steps=40, max_length=24),
    "small": Setting("FacebookAI/roberta-base", "glue-mnli", steps=500, batch_size=20),
    "full": Setting("openai-community/gpt2-xl", "glue-mnli", epochs=40.0, batch_size=20, max_length=768),
}


def label_of(name: str, size: int | None) -> str:
    """A row's name."""
    return f"{name}, {'all' if size is None else f'{size:,}'}"


@experiment("table16", title="Few items to train on")
def table16(asked: Asked) -> Page:
    """Four methods over the number of training items."""
    sizes, setting = SIZES[asked.scale], SETTINGS[asked.scale]
    arms = [
        Arm(label_of(name, size), method, train_items=size)
        for name, method in METHODS.items()
        for size in sizes
    ]
    found = train_all(asked, {"accuracy": setting}, arms)
    if asked.scale == "cpu":
        found = {"newsgroups (for MNLI)": next(iter(found.values()))}
    one = next(iter(found.values()))
    printed = {
        label_of(name, size): (text,)
        for name, texts in PRINTED.items()
        for size, text in zip((100, 1000, 10_000, None), texts, strict=True)
    }
    return Page(
        "Table 16: few items to train on",
        caption(found),
        (score_table("Accuracy by number of training items", [arm.label for arm in arms], found, printed, ("MNLI-m (±0.3), all: 392k",)),),
        tuple(statements(one, sizes[0])),
        (
            "GPT-3 is not public: another model; the paper gives every method its own rate and number of epochs, here each has its preset rate and the same steps.",
            "The same items are drawn for every method and seed.",
            *(["newsgroups has 20 classes, so that 100 items are five a class; all are 10,181."] if asked.scale == "cpu" else []),
        ),
        (Picture("Accuracy over the number of training items", _picture(one, sizes)),),
    )  # fmt: skip


def statements(one: Scored, few: int | None) -> list[Statement]:
    """At the fewest items."""
    lora = label_of(LORA, few)
    made = [
        statement(
            f"LoRA is as good as full fine-tuning or better, {few} items",
            f"LoRA minus FT is above -{MARGIN * 100:g} point",
            one.difference(lora, label_of(FULL, few)),
            lambda found: above(found, -MARGIN),
        )
    ]
    made += [
        statement(
            f"{name} is behind LoRA with {few} items",
            f"LoRA minus {name} is above 0",
            one.difference(lora, label_of(name, few)),
            lambda found: above(found, 0.0),
        )
        for name in (EMBED, LAYER)
    ]
    made.append(
        statement(
            f"PreLayer is better than PreEmbed with {few} items",
            "the difference is above 0",
            one.difference(label_of(LAYER, few), label_of(EMBED, few)),
            lambda found: above(found, 0.0),
        )
    )
    return made


def _picture(one: Scored, sizes: tuple[int | None, ...]) -> str:
    everything = max(
        (r.record.training or {}).get("train_items", 0) for found in one.results.values() for r in found
    )
    lines = []
    for name in METHODS:
        points = [
            (size or everything, e) for size in sizes if (e := one.score(label_of(name, size))) is not None
        ]
        lines.append(line(name, points, one.percent))
    return charts([Chart("", "training items", one.shown(), tuple(lines), log_x=True)])
