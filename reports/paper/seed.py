"""Statements of the paper that have no table: what LoRA can express, how few directions matter, what prefixes cost, switching tasks.

Hu et al. 2021, sections 4.1 (full rank recovers full fine-tuning; switching), 1 and 7.2 (low intrinsic rank; the top directions are the most
useful), 3 (a prefix takes places from the text).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from peftbench import experiment
from peftbench.analysis.subspace import Floats
from peftbench.errors import PeftbenchError
from peftbench.execution import prepare
from peftbench.execution.restore import rebuilt
from peftbench.experiments.page import Asked, Page, PageTable, Picture, Statement, above, exactly
from peftbench.models.adaptation import weight_of
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.plugins import build
from peftbench.records.results import Result
from peftbench.render.columns import Cell, with_interval
from peftbench.stats.estimate import ALPHA, Estimate, Scores, estimate

from ._drawing import Chart, Line, charts, line
from ._kept import as_lora, at_random, drift, rewritten, top, trained
from ._score_table import caption
from ._scored import Arm, Setting, train

SETTINGS = {
    "cpu": Setting("minilm-l6", "newsgroups:inputs=300", seeds=5, steps=80, max_length=24, keep_weights=True),
    "small": Setting("FacebookAI/roberta-base", "newsgroups:inputs=1000", seeds=5, steps=1000, batch_size=32, max_length=128, keep_weights=True),
    "full": Setting("FacebookAI/roberta-large", "glue-mnli", seeds=5, epochs=10.0, batch_size=4, max_length=128, keep_weights=True),
}  # fmt: skip
FULL, LORA = "full fine-tuning", "LoRA, r = 8"
ARMS = (Arm(FULL, "full"), Arm(LORA, "lora:rank=8:targets=query+value"))
RANKS = {FULL: (1, 2, 4, 8, 16, 64), LORA: (1, 2, 4)}  # that are kept of each run's dW
NOTHING, WHOLE, RANDOM = "nothing", "all", "one at random"
ALL_LINEAR = "query+key+value+attention_output+ffn_in+ffn_out"
LOW_RANK, MOST, LITTLE = 8, 0.8, 0.2  # directions, and shares of the gain
EQUAL = 1e-4  # of the logits' norm: float32 through all layers
PREFIXES = ("lora", "prefix:length=16", "prefix-embed:prefix=16:infix=8", "prefix-layer:prefix=16:infix=8")
CYCLES, DRIFTED = 1000, 0.05  # of |B A|: what a merge may be off by


@experiment(
    "seed", title="Statements without a table: full rank, few directions, prefixes' places, switching"
)
def seed(asked: Asked) -> Page:
    """Each with its own small experiment."""
    scored = train(asked, SETTINGS[asked.scale], ARMS)
    kept = {label: _kept(asked, label, scored.good(label)) for label in (FULL, LORA)}
    off = recovered(scored.good(FULL)[0])
    left = longest_inputs(scored.setting.model)
    drifts = switched(scored.good(LORA))
    return Page(
        "Statements without a table",
        caption({"accuracy": scored}),
        (_gains(kept, scored.percent), _lengths(left), _drifts(drifts)),
        (of_rank(off), *of_directions(kept, scored.percent), *of_lengths(left), *of_switching(drifts)),
        (
            "A small model on 20 classes in place of the paper's; a gain is over the same run with dW = 0, its head and vectors as they were trained.",
            "That prefixes are not monotone in their size is a statement of table15.",
            *(["300 items are scored."] if asked.scale == "cpu" else []),
        ),
        (Picture("Accuracy with the top directions of dW alone", _picture(kept, scored.percent)),),
    )  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """Scores with parts of dW."""

    scores: dict[str, dict[int, Floats]]  # what is kept -> seed -> a score an item
    groups: npt.NDArray[np.str_]  # (items,)


def _kept(asked: Asked, label: str, results: Sequence[Result]) -> Kept:
    """Scores with parts of dW."""
    found: dict[str, dict[int, Floats]] = {}
    for result in results:
        number = result.record.run.seed
        asked.say(f"{label}, seed {number}: scored with parts of its update")
        one = trained(result)
        parts = {NOTHING: top(0), **{str(r): top(r) for r in RANKS[label]}, WHOLE: top(10**6)}
        if label == LORA:
            parts[RANDOM] = at_random(np.random.default_rng(number))
        for name, part in parts.items():
            one.keep(part)
            found.setdefault(name, {})[number] = one.scores()
    return Kept(found, one.groups)


def combined(kept: Kept, weights: Mapping[str, float]) -> Estimate:
    """The weighted sum of some scores, over seeds and items."""
    seeds = kept.scores[NOTHING]
    by_seed = {s: np.asarray(sum(w * kept.scores[name][s] for name, w in weights.items())) for s in seeds}
    return estimate(Scores.of_items(by_seed), kept.groups)


def share_of_gain(kept: Kept, name: str) -> float:
    """What is kept of the whole update's gain."""
    if name == NOTHING:
        return 0.0
    part, whole = (combined(kept, {n: 1.0, NOTHING: -1.0}).value for n in (name, WHOLE))
    return part / whole if whole else math.nan


def beyond(kept: Kept, name: str, share: float) -> Estimate:
    """The gain of a part minus that share of the whole gain: above 0 where the part keeps more."""
    return combined(kept, {name: 1.0, NOTHING: share - 1.0, WHOLE: -share})


def gains(kept: Kept) -> bool:
    """Whether dW is shown to be worth anything: shares of no gain mean nothing."""
    return above(combined(kept, {WHOLE: 1.0, NOTHING: -1.0}), 0.0)[0] < ALPHA  # type: ignore[operator]


def of_directions(kept: Mapping[str, Kept], percent: float) -> list[Statement]:
    """How much of the gain a few directions keep."""
    made = []
    for label, name, share, says in (
        (
            FULL,
            str(LOW_RANK),
            MOST,
            f"What full fine-tuning changes has a low intrinsic rank (section 1): its {LOW_RANK} top directions keep its gain",
        ),
        (LORA, "1", MOST, "The top direction is the most useful (section 7.2): alone it keeps LoRA's gain"),
    ):
        found = beyond(kept[label], name, share)
        made.append(
            Statement(
                says,
                f"they keep more than {share:.0%} of the gain, paired by seed and item",
                f"{share_of_gain(kept[label], name):.0%}; {with_interval(found, percent, '+')} points beyond {share:.0%}",
                *(above(found, 0.0) if gains(kept[label]) else (None, None)),
            )
        )
    found = beyond(kept[LORA], RANDOM, LITTLE)
    made.append(
        Statement(
            "Other directions are not: one at random of those that LoRA trained keeps little",
            f"it keeps less than {LITTLE:.0%} of the gain",
            f"{share_of_gain(kept[LORA], RANDOM):.0%}; {with_interval(found, percent, '+')} points beyond {LITTLE:.0%}",
            *(
                above(dataclasses.replace(found, value=-found.value), 0.0)
                if gains(kept[LORA])
                else (None, None)
            ),
        )
    )
    return made  # fmt: skip


def _gains(kept: Mapping[str, Kept], percent: float) -> PageTable:
    rows = [
        (
            Cell(label),
            Cell(name if name in (NOTHING, WHOLE, RANDOM) else f"top {name}"),
            Cell(with_interval(combined(of, {name: 1.0}), percent, "")),
            Cell(f"{share_of_gain(of, name):.0%}"),
        )
        for label, of in kept.items()
        for name in of.scores
    ]
    return PageTable(
        "Accuracy with a part of every dW", ("run", "directions kept", "accuracy x100", "of the gain"), tuple(rows), left=2
    )  # fmt: skip


def recovered(result: Result) -> float:
    """How far a LoRA of full rank, made of a fully fine-tuned model's dW, is off in its logits, as a share of their norm."""
    one = trained(result)
    wanted = one.logits()
    run = result.record.run
    fresh = prepare.load_base(run, prepare.objective_of(run), "cpu").model

    def into(model: Any, rank: int) -> Any:
        spec = f"lora:rank={rank}:alpha={rank}:targets={ALL_LINEAR}"
        return build.build_method(spec)[0].inject(model)

    other = dataclasses.replace(one, model=as_lora(one, fresh, into))
    return float((other.logits() - wanted).norm() / wanted.norm())


def of_rank(off: float) -> Statement:
    """A LoRA of full rank is full fine-tuning."""
    return Statement(
        "With r = d and all vectors trained, LoRA recovers full fine-tuning (section 4.1)",
        f"dW of a fully fine-tuned model, as singular values loaded into a LoRA of full rank, gives its logits to {EQUAL:g} of their norm",
        f"off by {off:.1e}",
        *exactly(off <= EQUAL),
    )


@torch.no_grad()
def longest_inputs(model: str) -> dict[str, tuple[int, int]]:
    """By method: the longest text that the model takes with it and without it. Tried out, not computed."""
    source = resolve_model(model)
    found = {}
    for spec in PREFIXES:
        loaded = load_model(source, None, 0)
        places = _longest(loaded.model.eval(), int(loaded.model.config.max_position_embeddings))  # type: ignore[union-attr, arg-type]
        adapted = build.build_method(spec)[0].inject(loaded.model).model.eval()
        found[spec] = (_longest(adapted, places), places)
    return found


def _longest(model: Any, most: int) -> int:
    """By halves, up to the places that its config says. A table of places may have rows that no text can use."""
    low, high = 1, most + 1  # takes low, does not take high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(model, middle) else (low, middle)
    return low


def _takes(model: Any, length: int) -> bool:
    tokens = torch.full((1, length), 5)
    try:
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    except (IndexError, RuntimeError, ValueError, PeftbenchError):
        return False
    return True


def of_lengths(left: Mapping[str, tuple[int, int]]) -> list[Statement]:
    """One a method: of LoRA none, of every prefix some."""
    lora, *_ = left
    return [
        Statement(
            f"{'LoRA takes no places' if name == lora else 'A prefix takes places'} from the text (section 3), {name}",
            "the longest text that the model takes with it, tried out, against the model's places",
            f"{longest} of {places}"
            + ("" if name == lora or longest < places else ": its keys and values have no position here"),
            *exactly((longest == places) == (name == lora)),
        )
        for name, (longest, places) in left.items()
    ]


def _lengths(left: Mapping[str, tuple[int, int]]) -> PageTable:
    rows = [
        (Cell(name), Cell(f"{longest}"), Cell(f"{places - longest}"))
        for name, (longest, places) in left.items()
    ]
    return PageTable("Longest input left", ("method", "tokens", "places taken"), tuple(rows))


def switched(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """By data type, the drift of one weight after many switches between two runs' updates: added and taken off, and from a W0 that is kept."""
    pairs = []
    for result in results[:2]:
        assert result.folder is not None
        prepared = rebuilt(result.record.run, result.folder)
        base, wrapper = next(iter(prepared.adaptation.swaps.values()))
        layer: Any = wrapper
        pairs.append((layer.scale * layer.b.detach(), layer.a.detach()))
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        start = weight_of(base).detach()
        weight = (start + pairs[0][0] @ pairs[0][1]).to(dtype)
        found[str(dtype).removeprefix("torch.")] = (
            drift(weight, pairs[0], pairs[1], CYCLES),
            rewritten(start.to(dtype), pairs[0], pairs[1], CYCLES),
        )
    return found


def of_switching(drifts: Mapping[str, tuple[float, float]]) -> list[Statement]:
    """By data type."""
    return [
        Statement(
            f"A task is switched by W - B A + B' A' (section 4.1), weights in {dtype}",
            f"after {CYCLES:,} times there and back W is off by at most {DRIFTED:.0%} of |B A|",
            f"{off:.2%}; {kept:.2%} where W0 is kept and W written anew from it",
            *exactly(off <= DRIFTED),
        )
        for dtype, (off, kept) in drifts.items()
    ]


def _drifts(drifts: Mapping[str, tuple[float, float]]) -> PageTable:
    return PageTable(
        f"W's drift after {CYCLES:,} switches there and back, of |B A|",
        ("weights in", "W - B A + B' A'", "W0 kept, W written anew"),
        tuple((Cell(dtype), *(Cell(f"{off:.2%}") for off in offs)) for dtype, offs in drifts.items()),
    )


def _picture(kept: Mapping[str, Kept], percent: float) -> str:
    lines = []
    for label, of in kept.items():
        ranks = [name for name in of.scores if name.isdecimal()]
        lines.append(line(label, [(float(name), combined(of, {name: 1.0})) for name in ranks], percent))
        for name in (NOTHING, WHOLE):
            value = combined(of, {name: 1.0}).value * percent
            lines.append(
                Line(f"{label}: {name}", (float(ranks[0]), float(ranks[-1])), (value, value), dashed=True)
            )
    return charts([Chart("", "directions of dW kept", "accuracy x100", tuple(lines), log_x=True)])
