"""What a forward pass costs with adapters and with a merged LoRA. Hu et al. 2021, table 1.

The paper's adapters have .5 million numbers in the first cell and 11 million in the others, .17 % and 3.7 % of the blocks' weights; on a
smaller model the bottlenecks are those with the same shares.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftbench import experiment
from peftbench.experiments.page import Asked, Page, PageTable, Statement, above, inside
from peftbench.plugins.build import canonical
from peftbench.records.runs import BASE
from peftbench.render.columns import MISSING, Cell
from peftbench.stats.estimate import difference_of
from peftbench.stats.slowdown import EQUIVALENCE

from ._timed import Place, Timed, merged, percent, ratio, time_passes

LORA = "lora:rank=4:targets=query+value"
# Milliseconds as printed, mean and standard deviation of 100 trials.
PRINTED = {
    "FT / LoRA, merged": ("1449.4 ±0.8", "338.0 ±0.6", "19.8 ±2.7"),
    "AdapterL": ("1482.0 ±1.0 (+2.2 %)", "354.8 ±0.5 (+5.0 %)", "23.9 ±2.1 (+20.7 %)"),
    "AdapterH": ("1492.2 ±1.0 (+3.0 %)", "366.3 ±0.5 (+8.4 %)", "25.8 ±2.2 (+30.3 %)"),
}


@dataclass(frozen=True)
class Setting:
    """One scale's."""

    model: str
    places: tuple[Place, ...]  # the paper's three cells, or smaller ones in their order
    small: tuple[int, int]  # bottlenecks of AdapterL and AdapterH in the first cell
    large: tuple[int, int]  # in the others
    processes: int
    rounds: int


PAPERS: tuple[Place, ...] = ((32, 512), (16, 256), (1, 128))
SETTINGS = {
    "cpu": Setting("minilm-l6", ((8, 128), (4, 64), (1, 32)), (2, 1), (84, 42), 5, 24),
    "small": Setting("random-gpt2-medium", PAPERS, (9, 5), (224, 112), 5, 20),
    "full": Setting("random-gpt2-medium", PAPERS, (9, 5), (224, 112), 5, 40),
}


def adapters(bottlenecks: tuple[int, int]) -> tuple[str, str]:
    """AdapterL and AdapterH, as records spell them."""
    low, high = bottlenecks
    return canonical(f"adapter-l:bottleneck={low}"), canonical(f"adapter-h:bottleneck={high}")


@experiment("table1", title="Inference latency of a merged LoRA, AdapterL and AdapterH")
def table1(asked: Asked) -> Page:
    """One forward pass in three cells."""
    setting = SETTINGS[asked.scale]
    timed: dict[Place, tuple[Timed, tuple[str, str]]] = {}
    for bottlenecks, places in ((setting.small, setting.places[:1]), (setting.large, setting.places[1:])):
        both = adapters(bottlenecks)
        asked.say(f"{', '.join(both)} and {LORA} at {', '.join(f'{b}x{n}' for b, n in places)}")
        found = time_passes(asked, setting.model, (LORA, *both), places, setting.processes, setting.rounds)
        timed |= dict.fromkeys(places, (found, both))
    first = next(iter(timed.values()))[0]
    run = first.records[0].run
    return Page(
        "Table 1: latency of one forward pass",
        f"{run.model}, weights and compute {run.dtype}; {setting.processes} fresh processes of {setting.rounds} rounds, every variant once a "
        f"round in random order. {first.machine}.",
        (_table(timed), _exact(timed)),
        _statements(timed, run.device),
        _differs(asked, setting, run.device),
    )


def _table(timed: dict[Place, tuple[Timed, tuple[str, str]]]) -> PageTable:
    """In the paper's layout: mean and standard deviation over the rounds, slow-down over full fine-tuning's model."""
    rows = []
    base = [Cell("the base itself")]
    for place, (found, _) in timed.items():
        base += [Cell(found.milliseconds(BASE, place)), Cell(MISSING)]
    rows.append(tuple(base))
    for i, name in enumerate(PRINTED):
        row = [Cell(name)]
        for (place, (found, both)), printed in zip(timed.items(), PRINTED[name], strict=True):
            variant = merged(LORA) if i == 0 else both[i - 1]
            text = found.milliseconds(variant, place)
            if i:
                text += f" ({percent(found.slowdown(variant, place))})"
            row += [Cell(text), Cell(printed)]
        rows.append(tuple(row))
    headers = [""]
    for b, n in timed:
        headers += [f"{b}x{n}, ms", "printed"]
    return PageTable(
        "Milliseconds, batch x length: mean ± standard deviation, and in brackets the slow-down over the base with its 95 % interval",
        tuple(headers),
        tuple(rows),
    )


def _exact(timed: dict[Place, tuple[Timed, tuple[str, str]]]) -> PageTable:
    """Every variant against the base, and what trains."""
    rows = []
    for place, (found, both) in timed.items():
        counts = (found.records[0].meters or {})["adapter_parameters"]
        for variant in ("copy of the base", merged(LORA), canonical(LORA), *both):
            count = counts.get(variant)
            rows.append(
                (
                    Cell(f"{place[0]}x{place[1]}"),
                    Cell(variant),
                    Cell("" if count is None else f"{count:,}"),
                    Cell(percent(found.slowdown(variant, place))),
                )
            )
    return PageTable(
        "Slow-down over the base, median of the rounds' ratios with its 95 % interval; the copy of the base is the noise floor",
        ("cell", "variant", "numbers that train", "slow-down"),
        tuple(rows),
        left=2,
    )


def _statements(timed: dict[Place, tuple[Timed, tuple[str, str]]], device: str) -> tuple[Statement, ...]:
    on = "on this CPU: " if device == "cpu" else ""
    margin = EQUIVALENCE[device]
    made = []
    for place, (found, both) in timed.items():
        where = f"{place[0]}x{place[1]}"
        none = found.slowdown(merged(LORA), place)
        made.append(
            Statement(
                f"A merged LoRA adds no latency (section 4.1), {where}",
                f"the slow-down's 90 % interval lies inside ±{margin:.0%}",
                f"{on}{percent(none)}",
                *inside(none.estimate, margin),
            )
        )
        for label, method in zip(("AdapterL", "AdapterH"), both, strict=True):
            cost = found.slowdown(method, place)
            made.append(
                Statement(
                    f"{label} adds latency (section 3), {where}", "its slow-down is above 0", f"{on}{percent(cost)}",
                    *above(cost.estimate, 0.0),
                )
            )  # fmt: skip
        over = found.slowdown(both[1], place, base=both[0])
        made.append(
            Statement(
                f"AdapterH adds more than AdapterL, {where}",
                "AdapterH's time over AdapterL's is above 1, in the same rounds",
                f"{on}{percent(over)}",
                *above(over.estimate, 0.0),
            )
        )
    places = list(timed)
    large, small = places[1], places[-1]  # the two cells with the same adapters
    for k, label in enumerate(("AdapterL", "AdapterH")):
        at_small, at_large = (timed[place][0].slowdown(timed[place][1][k], place) for place in (small, large))
        grown = difference_of(at_small.estimate, at_large.estimate)
        made.append(
            Statement(
                f"{label}'s slow-down is larger online, at {small[0]}x{small[1]}, than at {large[0]}x{large[1]}",
                "time over the base at the first, over the same at the second, is above 1; same bottleneck",
                f"{on}{percent(at_small)} and {percent(at_large)}; {ratio(grown)} times",
                *above(grown, 0.0),
            )
        )
    return tuple(made)


def _differs(asked: Asked, setting: Setting, device: str) -> tuple[str, ...]:
    said = [
        f"{setting.processes * setting.rounds} trials in {setting.processes} processes; the paper takes 100, and does not say how many warm up or how they are timed.",
        "The paper does not say which data type its GPT-2 medium has, and ran it on one Quadro RTX8000.",
        "The paper does not print the bottlenecks: those here have its numbers of parameters, or their share of the blocks' weights.",
        "Here the base is timed beside the merged model; in the paper they are one row by construction.",
    ]
    if asked.model or setting.places != PAPERS:
        said.insert(
            0,
            f"{asked.model or setting.model} at {', '.join(f'{b}x{n}' for b, n in setting.places)}, in place of GPT-2 medium at "
            f"{', '.join(f'{b}x{n}' for b, n in PAPERS)}.",
        )
    if device == "cpu":
        said.append("A CPU: what launches of kernels cost is a question for a GPU.")
    return tuple(said)
