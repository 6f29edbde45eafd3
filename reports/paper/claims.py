"""The paper's claims of cost: parameters, memory, checkpoints and latency. Hu et al. 2021, sections 1, 4.2 and 5.5, tables 4 and 15.

Counts are made at GPT-3's 175 billion parameters: every method is let into the model on the meta device, where it has shapes
and no weights. The same ratios are measured at the largest size at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peftbench import experiment, spec
from peftbench.experiments.page import Asked, Page, PageTable, Statement, exactly
from peftbench.plugins import build
from peftbench.render.columns import MISSING, Cell

from ._measured import (
    SETTINGS,
    memory,
    memory_statement,
    memory_table,
    passes,
    passes_statements,
    passes_table,
)

WIDTH, LAYERS, HEADS, POSITIONS = 12288, 96, 96, 2048  # GPT-3 175B; vocabulary and layout are GPT-2's
ALL_FOUR = "query+key+value+attention_output"
# What the paper prints in tables 4 and 15, and the SPEC of it here. Prefix-layer tuning is printed 1 to 8 % above its own formula.
PRINTED = (
    ("full", "175,255.8M"),
    ("bitfit", "14.2M"),
    *((f"prefix-embed:prefix={n}:infix=8", m) for n, m in ((32, "0.4M"), (64, "0.9M"), (128, "1.7M"), (256, "3.2M"), (512, "6.4M"))),
    ("prefix-layer:prefix=2:infix=2", "5.1M"),
    ("prefix-layer:prefix=8:infix=0", "10.1M"),
    ("prefix-layer:prefix=8:infix=8", "20.2M"),
    ("prefix-layer:prefix=32:infix=4", "44.1M"),
    ("prefix-layer:prefix=64:infix=0", "76.1M"),
    *((f"adapter-h:bottleneck={r}", m) for r, m in ((1, "7.1M"), (4, "21.2M"), (8, "40.1M"), (16, "77.9M"), (64, "304.4M"))),
    ("lora:rank=2:targets=value", "4.7M"),
    ("lora:rank=1:targets=query+value", "4.7M"),
    ("lora:rank=2:targets=query+value", "9.4M"),
    (f"lora:rank=1:targets={ALL_FOUR}", "9.4M"),
    ("lora:rank=4:targets=query+value", "18.8M"),
    (f"lora:rank=2:targets={ALL_FOUR}", "18.8M"),
    ("lora:rank=8:targets=query+value", "37.7M"),
    (f"lora:rank=4:targets={ALL_FOUR}", "37.7M"),
    ("lora:rank=64:targets=query+value", "301.9M"),
    (f"lora:rank=64:targets={ALL_FOUR}", "603.8M"),
    ("lora-prefix-embed:rank=8:prefix=8:infix=4", "37.8M"),
    ("lora-prefix-layer:rank=8:prefix=8:infix=4", "52.8M"),
)  # fmt: skip
FULL, LORA = "full", "lora:rank=4:targets=query+value"
# Those whose formula the paper prints its counts by.
BY_FORMULA = ("lora", "adapter-h", "prefix-embed", "lora-prefix-embed")
TASKS = 100  # adapted models that are stored, section 4.2


@dataclass(frozen=True)
class Counted:
    """One method at 175 billion parameters."""

    text: str  # its SPEC
    printed: str
    trained: int

    @property
    def agrees(self) -> bool:
        """Whether the printed figure is the count, to a tenth of a million or of a percent."""
        millions = float(self.printed.rstrip("M").replace(",", ""))
        return abs(self.trained / 1e6 - millions) <= max(0.1, millions / 1000)


@experiment(
    "claims",
    title="The claims of cost: parameters, memory and checkpoints, counted at 175 billion parameters",
)
def claims(asked: Asked) -> Page:
    """What LoRA saves, counted at 175 billion parameters."""
    counted, total = count_all(asked)
    by_text = {one.text: one for one in counted}
    lora = by_text[LORA].trained
    steps, why_not = memory(asked, FULL, LORA)
    timed = passes(asked, LORA)
    run, setting = timed.records[0].run, SETTINGS[asked.scale]
    statements = (
        *_of_parameters(counted, total, lora),
        *_of_bytes(total, lora),
        memory_statement(steps, why_not),
        *passes_statements(timed, LORA),
    )
    return Page(
        "The claims of cost, counted at 175 billion parameters and measured",
        f"Counted on the meta device from a GPT-2 layout of width {WIDTH:,}, {LAYERS} layers and {POSITIONS:,} positions: {total:,} parameters. "
        f"Measured: {run.model}, weights and compute {run.dtype}; {setting.processes} processes of {setting.rounds} rounds. {timed.machine}.",
        (
            _parameters(counted, total),
            _bytes(total, lora),
            *([memory_table(steps, run.model)] if steps else []),
            passes_table(timed, LORA, build.canonical(LORA)),
        ),
        statements,
        (
            "GPT-3 is not public: its layout is GPT-2's, whose vocabulary has 50,257 tokens; the paper prints 175,255.8M parameters in all.",
            "Prefix-layer tuning is printed 1 to 8 % above its own formula, and BitFit as 12 vectors a layer where there are 11 biases: both are counted as built.",
            "In bytes by kind there are no activations, which batch and length decide: those measured have them.",
            "Where activations are few means a twentieth of full fine-tuning's peak at most: in float32, with a tenth of it, arithmetic alone gives 2.9.",
            "The paper's 1.2 TB and 350 GB are of GPT-3 over many GPUs; what is measured here is one device.",
        ),
    )


def count_all(asked: Asked) -> tuple[list[Counted], int]:
    """Every row of tables 4 and 15, and the parameters of the model."""
    counted, total = [], 0
    for text, printed in PRINTED:
        asked.say(f"counting {text}")
        trained, total = count(text)
        counted.append(Counted(text, printed, trained))
    return counted, total


def count(text: str) -> tuple[int, int]:
    """What a method trains in GPT-3, and the model's own parameters."""
    import torch
    import transformers

    method: Any = spec.build(parsed := spec.parse(text), _class_of(parsed.name), "method")
    layout = transformers.GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS)
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(layout).eval()
    total = sum({id(p): p.numel() for p in model.parameters()}.values())
    return sum(p.numel() for p in method.inject(model).params.values()), total


def _class_of(name: str) -> Any:
    from peftbench.plugins import registry

    return registry.get("method", name).target


def _parameters(counted: list[Counted], total: int) -> PageTable:
    body = tuple(
        (
            Cell(one.text),
            Cell(one.printed),
            Cell(f"{one.trained:,}"),
            Cell(f"{total / one.trained:,.0f}" if one.text != FULL else MISSING),
            Cell("" if one.agrees else "differs"),
        )
        for one in counted
    )
    return PageTable(
        "Numbers that train, as in tables 4 and 15",
        ("method", "printed", "counted", "of all, 1 in", ""),
        body,
    )


def _bytes(total: int, lora: int) -> PageTable:
    rows = []
    for name, base, own in (
        ("float32 throughout", 4, 16),
        ("bfloat16 weights and gradients, float32 master and Adam", 2, 16),
    ):
        full, low = _training_bytes(total, lora, base, own)
        rows.append(
            (
                Cell(f"training, {name}"),
                _gb(full),
                _gb(low),
                Cell(f"{full / low:.2f}"),
                Cell("1.2 TB, 350 GB: 3.4"),
            )
        )
    rows.append(
        (
            Cell("checkpoint, 16 bits"),
            _gb(2 * total),
            _gb(2 * lora),
            Cell(f"{total / lora:,.0f}"),
            Cell("350 GB, 35 MB: 10,000"),
        )
    )
    many = TASKS * 2 * total, 2 * total + TASKS * 2 * lora
    rows.append(
        (
            Cell(f"{TASKS} adapted models, 16 bits"),
            _gb(many[0]),
            _gb(many[1]),
            Cell(f"{many[0] / many[1]:.1f}"),
            Cell("35 TB, 354 GB: 98.9"),
        )
    )
    return PageTable(
        f"Bytes of full fine-tuning and of {LORA}: weights, gradients and Adam's state, without activations",
        ("", "full, GB", "LoRA, GB", "ratio", "printed"),
        tuple(rows),
    )  # fmt: skip


def _training_bytes(total: int, lora: int, base: int, own: int) -> tuple[int, int]:
    """Of full fine-tuning, and of LoRA: `own` bytes for each number that trains, `base` for each that does not."""
    return own * total, base * total + own * lora


def _gb(size: int) -> Cell:
    return Cell(f"{size / 1e9:,.3f}" if size < 1e9 else f"{size / 1e9:,.0f}")


def _of_parameters(counted: list[Counted], total: int, lora: int) -> list[Statement]:
    formula = [one for one in counted if spec.parse(one.text).name in BY_FORMULA]
    wrong = [one.text for one in formula if not one.agrees]
    ratio = total / lora
    return [
        Statement(
            "The counts of LoRA, Houlsby's adapters and prefix-embedding tuning in tables 4 and 15 follow from their formulas (section 5.1)",
            "every printed count is the one counted here, to a tenth of a million or of a percent",
            f"{len(formula) - len(wrong)} of {len(formula)} agree" + (f"; not: {', '.join(wrong)}" if wrong else ""),
            *exactly(not wrong),
        ),
        Statement(
            "10,000 times fewer numbers train (abstract)",
            "1 in 10,000 to the nearest power of ten, for r = 4 on query and value",
            f"1 in {ratio:,.0f}; the law is 3 width / r, 12 width^2 a layer over 4 r width: {3 * WIDTH / 4:,.0f}",
            *exactly(10**3.5 <= ratio < 10**4.5),
        ),
    ]  # fmt: skip


def _of_bytes(total: int, lora: int) -> list[Statement]:
    ratios = [
        full / low for full, low in (_training_bytes(total, lora, 4, 16), _training_bytes(total, lora, 2, 16))
    ]
    full, low = 2 * total, 2 * lora
    return [
        Statement(
            "Training takes a third of the memory (abstract; 1.2 TB against 350 GB in section 4.2), where activations are few",
            "weights, gradients and Adam's state of full fine-tuning are 3 times LoRA's or more; activations are not counted",
            f"{ratios[0]:.2f} times in float32, {ratios[1]:.2f} times in 16 bits with a float32 master",
            *exactly(min(ratios) >= 3),
        ),
        Statement(
            "A checkpoint shrinks from 350 GB to 35 MB (section 4.2)",
            "both sizes within a tenth of the printed ones, at 16 bits a number",
            f"{full / 1e9:.1f} GB and {low / 1e6:.1f} MB ({low / 2**20:.1f} MiB)",
            *exactly(abs(full / 350e9 - 1) <= 0.1 and abs(low / 35e6 - 1) <= 0.1),
        ),
    ]
