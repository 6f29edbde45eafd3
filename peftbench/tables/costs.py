"""What a method costs: from the raw figures of its records to the fields of a row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..records.record import Record
from ..records.runs import BASE, COPY, merged_name
from ..stats.estimate import after_warmup
from ..stats.slowdown import EQUIVALENCE, Slowdown, slowdown
from .compiled import Compiled, compiled_of
from .flops import flops_of, peak_flops_per_s
from .quantities import SLOWDOWN, Measure, headline_bytes, measures, median_of

PRECISION = 0.01  # half-width of a slow-down's interval that is narrow enough


@dataclass(frozen=True)
class Latency:
    """One cell of the latency grid."""

    batch: int
    length: int
    base_ms: float | None  # medians over the rounds of all processes
    unmerged_ms: float | None
    merged_ms: float | None
    unmerged_p95_ms: float | None
    unmerged: Slowdown | None  # over the base
    merged: Slowdown | None
    noise: Slowdown | None  # of a copy of the base over the base
    merged_is_none: bool | None = None  # shown to cost nothing
    is_decided: bool = (
        True  # each slow-down is known to `PRECISION`, or shown to be none, or shown to be some
    )
    refusal: str | None = None


@dataclass(frozen=True)
class Costs:
    """Of one method. What is not known is None."""

    figures: Mapping[str, float | None] = field(default_factory=dict)  # by the name of their measure
    by_run: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # the same, of each run that tells it
    train_peak_reserved_bytes: int | None = None  # CUDA
    train_peak_kind: str | None = None
    train_peak_all_ranks_bytes: int | None = None  # of a run in several processes
    score_peak_bytes: int | None = None
    memory_by_kind: Mapping[str, int] = field(default_factory=dict)  # at the peak of a step, model included
    step_p95_ms: float | None = None
    data_share: float | None = None  # of the loop's time spent cutting batches
    clipped_share: float | None = None
    flops_per_step: float | None = None  # mean over the timed steps
    flops_per_s: float | None = None
    flop_utilisation: float | None = None  # of the device's peak, where it is known
    compiled: Compiled | str | None = None  # its step under torch.compile, or why there is none
    energy_kind: str | None = None  # the counter of the device that was read
    latency: tuple[Latency, ...] = ()
    graph_is_base: bool = (
        False  # at inference it is the base with other numbers in it: no pass of it was timed
    )
    latency_others_cpu_share: float | None = None  # the highest of the processes
    throttled: tuple[str, ...] = ()  # what held the GPU's clock down, while training or timing

    def of(self, measure: Measure) -> float | None:
        """A measure's figure, in the unit that it is kept in."""
        return self.figures.get(measure.name)


NO_COSTS = Costs()


def costs_of(good: Sequence[Record], alone: Sequence[Record], latency: Sequence[Record]) -> Costs:
    """The costs of one method.

    Args:
        good: its training runs, one a seed.
        alone: its cost runs, one a process.
        latency: its latency runs, one a process.
    """
    if not good:
        return NO_COSTS
    measured = measured_in(good, alone)
    profile = next((record.profile for record in alone if record.profile), None)
    memory = [record.memory or {} for record in measured]
    training = [record.training or {} for record in measured]
    stepped = [t for t in training if t.get("step_s")]
    peaks = [m.get("train") for m in memory]
    metered = [*training, *(record.scoring or {} for record in measured)]
    kinds = (profile or {}).get("memory_by_kind") or {}
    cells = latencies(latency)
    same = all((record.scoring or {}).get("graph_is_base") for record in good)
    slowest = 0.0 if same and not cells else _worst(cells)
    return Costs(
        figures={m.name: figure_of(m, good, alone) for m in measures()} | {SLOWDOWN.name: slowest},
        by_run={m.name: _by_run(m, good, alone) for m in measures()},
        train_peak_reserved_bytes=median_of([p["peak_reserved_bytes"] for p in peaks if p]),
        train_peak_kind=next((p["taken_by"] for p in peaks if p), None),
        train_peak_all_ranks_bytes=median_of([p.get("all_ranks_bytes") for p in peaks if p]),
        score_peak_bytes=median_of([headline_bytes((record.memory or {}).get("score")) for record in good]),
        memory_by_kind={n.removesuffix("_bytes"): kinds[n] for n in MEMORY_KINDS if n in kinds},
        compiled=compiled_of(alone),
        energy_kind=next((t["taken_by"] for t in metered if t.get("taken_by")), None),
        latency=cells,
        graph_is_base=same,
        latency_others_cpu_share=max(
            (s for r in latency if (s := (r.meters or {}).get("others_cpu_share")) is not None), default=None
        ),
        throttled=_throttled([*training, *((r.meters or {}) for r in latency)]),
        clipped_share=_clipped_share(good),
        **(_steps(stepped, measured[0], (profile or {}).get("flops") or []) if stepped else {}),
    )


def measured_in(good: Sequence[Record], alone: Sequence[Record]) -> Sequence[Record]:
    """The runs that tell what is sampled: cost runs; where there are none, the training runs, whatever ran beside them."""
    return [record for record in alone if record.training] or good


def figure_of(measure: Measure, good: Sequence[Record], alone: Sequence[Record]) -> float | None:
    """A measure of a method, of one training run where it grows with its steps."""
    if measure.exact:
        return measure.of_runs(good)
    measured = measured_in(good, alone)
    if measured is good or not measure.of_run:
        return measure.of_runs(measured)
    steps = int((good[0].training or {}).get("steps") or 0)
    figures = [
        figure * _longer(record, steps)
        for record in measured
        if (figure := measure.of_runs([record])) is not None
    ]
    return statistics.fmean(figures) if figures else None


def _longer(record: Record, steps: int) -> float:
    """How many times as long as a cost run its training run takes: of that, too, only the first steps warm up."""
    step_s = (record.training or {}).get("step_s") or []
    timed = after_warmup(step_s)
    warm_up_s = float(sum(step_s[: len(step_s) - len(timed)]))
    if not steps or not sum(step_s):
        return 1.0
    whole_s = warm_up_s + float(timed.mean()) * (steps - len(step_s) + len(timed))
    return whole_s / float(sum(step_s))


def _by_run(measure: Measure, good: Sequence[Record], alone: Sequence[Record]) -> tuple[float, ...]:
    """A measure of each run by itself, of those that tell it."""
    measured = good if measure.exact else measured_in(good, alone)
    figures = (
        measure.of_runs([one]) if measured is good else figure_of(measure, good, [one]) for one in measured
    )
    return tuple(figure for figure in figures if figure is not None)


def _worst(cells: Sequence[Latency]) -> float | None:
    """The slow-down, merged where the method merges, in the worst cell."""
    slow = [one.value for cell in cells if (one := cell.merged or cell.unmerged) is not None]
    return max(slow, default=None)


MEMORY_KINDS = ("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "other_bytes")


def _steps(stepped: list[dict[str, Any]], record: Record, counted: list[dict[str, Any]]) -> dict[str, Any]:
    """What the timed steps tell."""
    step_s = np.concatenate([after_warmup(t["step_s"]) for t in stepped])
    data_s, all_s = sum(sum(t["data_s"]) for t in stepped), sum(sum(t["step_s"]) for t in stepped)
    found: dict[str, Any] = {
        "step_p95_ms": float(np.quantile(step_s, 0.95)) * 1e3,
        "data_share": data_s / (data_s + all_s),
    }
    if counted and all(t.get("padded_tokens") for t in stepped):
        # Runs of before tell how many tokens a step has, and not of which shape.
        whole = all("shape" in c for c in counted) and all("shapes" in t for t in stepped)
        known = [c["shape"] if whole else [[1, c["padded_tokens"]]] for c in counted]
        shapes = [
            shape
            for t in stepped
            for shape in (t["shapes"] if whole else [[[1, n]] for n in t["padded_tokens"]])[
                -len(after_warmup(t["step_s"])) :
            ]
        ]
        flops = flops_of(list(zip(known, (c["flops"] for c in counted), strict=True)), shapes)
        if flops is None:
            return found
        found["flops_per_step"] = statistics.fmean(flops)
        found["flops_per_s"] = sum(flops) / float(step_s.sum())
        peak = peak_flops_per_s(record.environment.get("gpu"), record.run.dtype)
        found["flop_utilisation"] = None if peak is None else found["flops_per_s"] / peak
    return found


def _clipped_share(good: Sequence[Record]) -> float | None:
    """Of the steps of the training runs."""
    norms = [
        norm
        for record in good
        for norm in (record.training or {}).get("gradient_norms") or ()
        if norm is not None  # it was not finite
    ]
    limit = good[0].run.budget.clip_norm
    return int((np.asarray(norms) > limit).sum()) / len(norms) if norms else None


def _throttled(sections: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    readings = [s.get(name) or {} for s in sections for name in ("gpu_before", "gpu_after")]
    return tuple(sorted({reason for r in readings for reason in r.get("throttle_reasons") or ()}))


def latencies(records: Sequence[Record]) -> tuple[Latency, ...]:
    """The cells of one method's latency runs, one a process."""
    cells: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for record in records:
        for cell in record.latency or []:
            cells.setdefault((cell["batch"], cell["length"]), []).append(cell)
    if not cells:
        return ()
    method, device = records[0].run.method, records[0].run.device
    return tuple(_latency(place, found, method, EQUIVALENCE[device]) for place, found in cells.items())


def _latency(place: tuple[int, int], cells: list[dict[str, Any]], method: str, margin: float) -> Latency:
    unmerged, merged = over_base(cells, method), over_base(cells, merged_name(method))
    return Latency(
        batch=place[0],
        length=place[1],
        base_ms=quantile_ms(cells, BASE, 0.5),
        unmerged_ms=quantile_ms(cells, method, 0.5),
        merged_ms=quantile_ms(cells, merged_name(method), 0.5),
        unmerged_p95_ms=quantile_ms(cells, method, 0.95),
        unmerged=unmerged,
        merged=merged,
        noise=over_base(cells, COPY),
        merged_is_none=None if merged is None else merged.is_none(margin),
        is_decided=all(
            one is None or one.half_width() <= PRECISION or one.side(margin) is not None
            for one in (unmerged, merged)
        ),
        # Of several sets of turns another one's may have been refused.
        refusal=next((cell["refusal"] for cell in cells if cell["refusal"]), None)
        if unmerged is None
        else None,
    )


def over_base(
    cells: Sequence[dict[str, Any]], variant: str, times: str = "ms", base: str = BASE
) -> Slowdown | None:
    """The slow-down of a variant over the base in one cell of several processes."""
    pairs = [
        (cell[times][base], cell[times][variant])
        for cell in cells
        if cell[times].get(variant) and cell[times].get(base)
    ]
    return slowdown(pairs) if pairs else None


def quantile_ms(
    cells: Sequence[dict[str, Any]], variant: str, share: float, times: str = "ms"
) -> float | None:
    """Of a variant's rounds in one cell, all processes together."""
    rounds = [ms for cell in cells for ms in cell[times].get(variant, [])]
    return float(np.quantile(rounds, share)) if rounds else None


def curve_end(good: Sequence[Record], metric: str) -> float | None:
    """What a method's curve on validation ends with, mean over its seeds."""
    ends = [record.curve[-1][metric] for record in good if record.curve and metric in record.curve[-1]]
    return statistics.fmean(ends) if ends else None


def seconds_to(
    good: Sequence[Record], metric: str, target: float | None, higher_is_better: bool
) -> tuple[float | None, ...]:
    """By seed, the seconds of training after which the curve first reaches the target; None where it never does."""
    sign = 1 if higher_is_better else -1
    curves = [record.curve for record in good if record.curve]
    if target is None:
        return ()
    return tuple(
        next(
            (
                point["train_s"]
                for point in curve
                if metric in point and sign * point[metric] >= sign * target
            ),
            None,
        )
        for curve in curves
    )
