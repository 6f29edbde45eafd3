"""How far adapters slow a forward pass, over batch, length and bottleneck. Hu et al. 2021, figure 5 (appendix B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, PageTable, Picture, Statement, above
from peftbench.plugins.build import canonical
from peftbench.render.columns import Cell
from peftbench.stats.estimate import difference_of

from ._drawing import Panel, heat_maps
from ._timed import Place, Timed, percent, ratio, time_passes

ROWS = (("AdapterH", "adapter-h"), ("AdapterL", "adapter-l"))  # from top to bottom, as in the figure
LOW, HIGH = -5.0, 35.0  # the figure's scale of colours, percent; its lower end is read from a tick


@dataclass(frozen=True)
class Setting:
    """One scale's."""

    model: str
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    bottlenecks: tuple[int, ...]  # without 0, the base
    processes: int
    rounds: int


SETTINGS = {
    "cpu": Setting("minilm-l6", (16, 32, 64), (1, 2, 4, 8), (4, 38, 94), 3, 14),
    "small": Setting("random-gpt2-medium", (128, 256, 512), (1, 2, 4, 8, 16, 32), (10, 100, 250), 3, 20),
    "full": Setting("random-gpt2-medium", (128, 256, 512), (1, 2, 4, 8, 16, 32), (10, 100, 250), 3, 34),
}


@experiment("figure5", title="Latency heat maps of adapters over batch, length and bottleneck")
def figure5(asked: Asked) -> Page:
    """Slow-downs over the whole grid."""
    setting = SETTINGS[asked.scale]
    places = tuple((batch, length) for length in setting.lengths for batch in setting.batches)
    methods = tuple(of(name, r) for _, name in ROWS for r in setting.bottlenecks)
    timed = time_passes(asked, setting.model, methods, places, setting.processes, setting.rounds)
    run = timed.records[0].run
    return Page(
        "Figure 5: slow-down by adapters over batch, length and bottleneck",
        f"{run.model}, weights and compute {run.dtype}, one forward pass; {setting.processes} fresh processes of {setting.rounds} rounds. {timed.machine}.",
        tuple(_table(timed, setting, label, name) for label, name in ROWS),
        _statements(timed, setting, run.device),
        _differs(asked, setting),
        (Picture("Slow-down over the model without adapters (r = 0), percent", _picture(timed, setting)),),
    )  # fmt: skip


def of(name: str, bottleneck: int) -> str:
    """An adapter as records spell it."""
    return canonical(f"{name}:bottleneck={bottleneck}")


def _picture(timed: Timed, setting: Setting) -> str:
    lines = [
        [
            Panel(
                f"{label}, length {length}",
                np.array(
                    [
                        [
                            0.0 if not r else timed.slowdown(of(name, r), (batch, length)).value * 100
                            for batch in setting.batches
                        ]
                        for r in (0, *setting.bottlenecks)
                    ]
                ),
                tuple(map(str, setting.batches)),
                tuple(map(str, (0, *setting.bottlenecks))),
                "batch",
                "bottleneck r",
                ".1f",
            )
            for length in setting.lengths
        ]
        for label, name in ROWS
    ]
    return heat_maps(lines, LOW, HIGH, "viridis", "slow-down, %")


def _table(timed: Timed, setting: Setting, label: str, name: str) -> PageTable:
    rows = [
        (
            Cell(f"{length}"),
            Cell(f"{r}"),
            *(Cell(percent(timed.slowdown(of(name, r), (batch, length)))) for batch in setting.batches),
        )
        for length in setting.lengths
        for r in setting.bottlenecks
    ]
    return PageTable(
        f"{label}: slow-down over the base, with its 95 % interval",
        ("length", "r", *(f"batch {batch}" for batch in setting.batches)),
        tuple(rows),
        left=2,
    )


def _statements(timed: Timed, setting: Setting, device: str) -> tuple[Statement, ...]:
    on = "on this CPU: " if device == "cpu" else ""
    first: Place = (setting.batches[0], setting.lengths[0])
    last: Place = (setting.batches[-1], setting.lengths[-1])
    r = setting.bottlenecks[-1]
    made = []
    for label, name in ROWS:
        small, large = (timed.slowdown(of(name, r), place) for place in (first, last))
        fallen = difference_of(small.estimate, large.estimate)
        made.append(
            Statement(
                f"{label}'s slow-down shrinks from the smallest batch and length to the largest (r = {r})",
                "time over the base at the first, over the same at the last, is above 1",
                f"{on}{percent(small)} at {_at(first)}, {percent(large)} at {_at(last)}; {ratio(fallen)} times",
                *above(fallen, 0.0),
            )
        )
    over = timed.slowdown(of("adapter-h", r), first, base=of("adapter-l", r))
    made.append(
        Statement(
            f"AdapterH costs more than AdapterL at {_at(first)} (r = {r})",
            "AdapterH's time over AdapterL's, in the same rounds, is above 1",
            f"{on}{percent(over)}",
            *above(over.estimate, 0.0),
        )
    )
    worst = timed.slowdown(of("adapter-h", r), first)
    made.append(
        Statement(
            "The slow-down can be above 30 % in an online, short-sequence setting (appendix B)",
            f"AdapterH's at {_at(first)} with r = {r} is above 30 %; where launches of kernels bind, on a GPU",
            f"{on}{percent(worst)}",
            *((None, None) if device == "cpu" else above(worst.estimate, float(np.log1p(0.30)))),
        )
    )
    return tuple(made)


def _at(place: Place) -> str:
    return f"{place[0]}x{place[1]}"


def _differs(asked: Asked, setting: Setting) -> tuple[str, ...]:
    said = [
        f"{setting.processes * setting.rounds} trials a cell; the paper takes 100.",
        "The figure's values are not printed: it is drawn again with its axes and colours, and can't be compared cell by cell.",
        "The paper runs on a Quadro RTX8000 and does not say in which data type.",
    ]
    if asked.model or asked.scale == "cpu":
        said.insert(
            0,
            f"{asked.model or setting.model}, lengths {', '.join(map(str, setting.lengths))}, batches up to {setting.batches[-1]}, bottlenecks of the "
            "same share of the width, in place of GPT-2 medium at lengths 128, 256, 512, batches up to 32, r = 10, 100, 250.",
        )
    return tuple(said)
