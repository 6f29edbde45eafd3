"""Tables of scores of an experiment, and what the caption above them says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from peftbench.experiments.page import PageTable
from peftbench.render.columns import MISSING, Cell

from ._scored import PUBLISHED_SEEDS, SMOKE, STANDARD_STEPS, Scored


def caption(found: dict[str, Scored]) -> str:
    """Model, data, budget and machine of each column."""
    parts = [
        f"{name}: {one.setting.model} on {one.setting.task}, {one.setting.budget}."
        for name, one in found.items()
    ]
    failed = [
        f" {label} failed on {name}: {reason.rstrip('.')}."
        for name, one in found.items()
        for label, reason in one.reasons.items()
    ]
    spoilt = [
        f" {label} on {name} ended at a training loss above the untrained model's in {count} of {len(one.results[label])} runs: this budget or rate does not suit it."
        for name, one in found.items()
        for label in one.results
        if (count := one.spoilt(label))
    ]
    seeds = min(one.setting.seeds for one in found.values())
    few = f" A verdict on {seeds} seeds is a first look; one to cite needs {PUBLISHED_SEEDS}."
    return (
        " ".join(parts)
        + f" ± is the 95 % interval over seeds and items. {next(iter(found.values())).machine}."
        + (
            SMOKE
            if any((one.setting.steps or STANDARD_STEPS) < STANDARD_STEPS for one in found.values())
            else ""
        )
        + (few if seeds < PUBLISHED_SEEDS else "")
        + "".join(failed + spoilt)
    )


def primary(one: Scored) -> list[str]:
    """The name of the primary metric, alone."""
    return [str(one.metric["name"])]


def score_table(
    title: str,
    labels: Sequence[str],
    found: dict[str, Scored],
    printed: Mapping[str, Sequence[str]],
    printed_headers: Sequence[str],
    metrics: Callable[[Scored], Sequence[str]] = primary,
) -> PageTable:
    """A row a cell: what trains, its learning rate, its scores on each task, and what the paper prints."""
    rows = []
    by_model: dict[str, Scored] = {}  # any task's run has the model's numbers
    for one in found.values():
        by_model.setdefault(one.setting.model, one)
    for label in labels:
        counts = [one.trained(label) for one in by_model.values()]
        rates = dict.fromkeys(f"{one.rates[label]:g}" for one in found.values() if label in one.rates)
        rows.append(
            (
                Cell(label),
                *(Cell(MISSING if count is None else f"{count:,}") for count in counts),
                Cell(", ".join(rates)),
                *(one.cell(label, metric) for one in found.values() for metric in metrics(one)),
                *(Cell(text) for text in printed.get(label, [MISSING] * len(printed_headers))),
            )
        )
    if any(one.most_frequent is not None for one in found.values()):
        rows.append(
            (
                Cell("the most frequent answer"),
                *(Cell("0") for _ in by_model),
                Cell(""),
                *(
                    Cell(MISSING if one.most_frequent is None else f"{one.most_frequent * one.percent:.1f}")
                    for one in found.values()
                    for _ in metrics(one)
                ),
                *(Cell(MISSING) for _ in printed_headers),
            )
        )
    headers = [f"{name}, {one.shown(metric)}" for name, one in found.items() for metric in metrics(one)]
    trained = ["numbers that train" + (f", {model}" if len(by_model) > 1 else "") for model in by_model]
    return PageTable(
        title,
        ("", *trained, "rate", *headers, *(f"printed: {h}" for h in printed_headers)),
        tuple(rows),
    )
