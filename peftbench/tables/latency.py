"""From the records of `peftbench latency` to tables: what a forward pass, a token or a switch costs, by variant."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import spec
from ..records.joint import record_parts
from ..records.record import Record
from ..records.runs import BASE, COPY, merged_name
from ..stats.slowdown import EQUIVALENCE, Slowdown
from .costs import over_base, quantile_ms
from .latency_notes import BUSY_SHARE

Place = tuple[int, int]
Cells = dict[Place, list[dict[str, Any]]]  # by (batch, length), one of each process


@dataclass(frozen=True)
class Timing:
    """One variant in one cell."""

    p50_ms: float | None
    p95_ms: float | None
    slowdown: Slowdown | None  # over the section's base; None for the base itself
    is_none: bool | None  # whether the slow-down is shown to be none
    tokens_per_s: float | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Variant:
    """One variant in every cell."""

    variant: str
    method: str | None  # SPEC; None for the base and its copy
    merged: bool
    parameters: int | None  # that the method adds; of the base: all
    figures: tuple[Timing, ...]


@dataclass(frozen=True)
class Section:
    """What was timed, by cell."""

    title: str
    cells: tuple[str, ...]  # "batch x length", or what else stands above a column
    lines: tuple[Variant, ...]
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class LatencyTable:
    """One model on one device, in one data type and execution."""

    model: str
    caption: str
    sections: tuple[Section, ...]
    footnotes: tuple[str, ...]


def latency_tables(records: Sequence[Record]) -> list[LatencyTable]:
    """One table for each model among some records of one command."""
    models = dict.fromkeys(record.run.model for record in records)
    return [_table(model, [r for r in records if r.run.model == model]) for model in models]


def _table(model: str, records: list[Record]) -> LatencyTable:
    good = [record for record in records if record.status == "ok"]
    bad = [part for record in records for part in record_parts(record) if part.status != "ok"]
    notes = list(dict.fromkeys(f"{one.run.method}: {one.status}: {one.reason}" for one in bad))
    if not good:
        return LatencyTable(model, "", (), tuple(notes))
    run, first = good[0].run, good[0]
    assert run.grid is not None
    margin = EQUIVALENCE[run.device]
    sections = [_section("one forward pass, ms", _by_place(good, "latency"), "ms", first, margin)]
    if generation := _by_place(good, "generation"):
        new = next(iter(generation.values()))[0]["new_tokens"]
        sections += [
            _section("time to first token, ms", generation, "first_token_ms", first, margin),
            _section(
                f"time per token after it, ms ({new} tokens, greedy, with a cache)",
                generation,
                "token_ms",
                first,
                margin,
                tokens=True,
            ),
        ]
    for served in first.serving or []:
        if served["refusal"]:
            notes.append(f"{served['method']}: several tasks not measured: {served['refusal']}.")
        else:
            ours = [s for r in good for s in r.serving or [] if s["method"] == served["method"]]
            sections += _serving(ours, margin)
            notes.append(_of_serving(served))
    caption = (
        f"{len(good)} fresh processes of {run.grid.rounds} rounds, {run.grid.execution}, {run.device}, weights and compute "
        f"{run.dtype}; batch x length, tokens at random, no padding."
    )
    for section in sections:
        first_line = section.lines[0].figures if section.lines else ()
        for cell, figure in zip(section.cells, first_line, strict=True):
            if figure.refusal:
                notes.append(f"{section.title}: {cell} was not measured: {figure.refusal}.")
    notes += _footnotes(good, sections[0], margin)
    return LatencyTable(model, caption, tuple(sections), tuple(notes))


def _by_place(records: Sequence[Record], name: str) -> Cells:
    cells: Cells = {}
    for record in records:
        for cell in getattr(record, name) or []:
            cells.setdefault((cell["batch"], cell["length"]), []).append(cell)
    return cells


def _section(
    title: str, cells: Cells, times: str, record: Record, margin: float, tokens: bool = False
) -> Section:
    counts = (record.meters or {}).get("adapter_parameters", {})
    methods = [str(one) for one in spec.parse_list(record.run.method)]
    measured = {variant for of_place in cells.values() for cell in of_place for variant in cell[times]}
    variants: list[tuple[str, str | None, bool]] = [(BASE, None, False), (COPY, None, False)]
    for method in methods:
        variants.append((method, method, False))
        if merged_name(method) in measured or not measured:
            variants.append((merged_name(method), method, True))
    lines = [
        Variant(
            variant=name,
            method=method,
            merged=merged,
            parameters=counts.get(method) if method else (record.meters or {}).get("base_parameters"),
            figures=tuple(
                _figure(of_place, name, times, margin, place[0] if tokens else None)
                for place, of_place in cells.items()
            ),
        )
        for name, method, merged in variants
    ]
    return Section(title, tuple(f"{b}x{n}" for b, n in cells), tuple(lines), tuple(cells))


def _figure(
    cells: list[dict[str, Any]],
    variant: str,
    times: str,
    margin: float,
    batch: int | None = None,
    base: str = BASE,
) -> Timing:
    ratio = None if variant == base else over_base(cells, variant, times, base)
    p50_ms = quantile_ms(cells, variant, 0.5, times)
    return Timing(
        p50_ms=p50_ms,
        p95_ms=quantile_ms(cells, variant, 0.95, times),
        slowdown=ratio,
        is_none=None if ratio is None else ratio.is_none(margin),
        tokens_per_s=None if batch is None or not p50_ms else batch / p50_ms * 1e3,
        refusal=cells[0]["refusal"],
    )


def _serving(served: list[dict[str, Any]], margin: float) -> list[Section]:
    """Of one method: switching, and batches of all its tasks; one element a process."""
    method = served[0]["method"]

    def lines(names: Sequence[str], figure: Callable[[str], tuple[Timing, ...]]) -> tuple[Variant, ...]:
        return tuple(Variant(name, method, False, None, figure(name)) for name in names)

    switches = [{"ms": one["switch_ms"], "refusal": None} for one in served]
    first, *_ = switches[0]["ms"]
    cells: Cells = {}
    for one in served:
        for cell in one["cells"]:
            cells.setdefault((cell["batch"], cell["length"]), []).append(cell)
    variants = dict.fromkeys(name for of_place in cells.values() for name in of_place[0]["ms"])
    base = next(iter(variants), BASE)
    return [
        Section(
            f"{method}: from one task's merged weights to another's, ms",
            ("switch",),
            lines(list(switches[0]["ms"]), lambda name: (_figure(switches, name, "ms", margin, base=first),)),
        ),
        Section(
            f"{method}: a batch of {served[0]['tasks']} tasks' rows, ms",
            tuple(f"{b}x{n}" for b, n in cells),
            lines(
                list(variants),
                lambda name: tuple(
                    _figure(of_place, name, "ms", margin, base=base) for of_place in cells.values()
                ),
            ),
            tuple(cells),
        ),
    ]


def _of_serving(served: dict[str, Any]) -> str:
    return (
        f"{served['method']}: to load for a task: its update {served['adapter_bytes'] / 1e6:,.2f} MB, its merged layers "
        f"{served['merged_bytes'] / 1e6:,.1f} MB, a whole model {served['model_bytes'] / 1e6:,.1f} MB. After "
        f"{served['switches']} switches by W - BA + B'A' the weights without a task differ by {served['drift']:.1e} of "
        "their norm; the base itself is never changed."
    )


def _footnotes(good: list[Record], section: Section, margin: float) -> list[str]:
    notes = []
    notes.append(
        "p50 (p95 in brackets) over all rounds; the slow-down is the median over rounds of the ratio to the base in the "
        "same round, mean over the processes with its 95 % interval."
    )
    notes.append(
        f"≈: shown to cost nothing: its 90 % interval lies within ±{margin:.0%}. Noise floor: the row {COPY!r} has the base's "
        "architecture with its own weights in memory."
    )
    if len(good) == 1:
        notes.append(
            "ONE process: the effect of its memory placement is in every figure; use --processes 3 or more."
        )
    floors = [
        abs(figure.slowdown.value)
        for line in section.lines
        if line.variant == COPY
        for figure in line.figures
        if figure.slowdown
    ]
    if floors and statistics.fmean(floors) > margin:
        notes.append(
            "The copy of the base differs from it by more than that: this machine is too noisy for this measurement."
        )
    shares = [s for r in good if (s := (r.meters or {}).get("others_cpu_share")) is not None]
    if shares and max(shares) > BUSY_SHARE:
        notes.append(
            f"Other processes took up to {max(shares):.0%} of the processor during the measurement: read with care."
        )
    states = [(r.meters or {}).get(name) or {} for r in good for name in ("gpu_before", "gpu_after")]
    if reasons := sorted({reason for s in states for reason in s.get("throttle_reasons") or ()}):
        notes.append(f"The GPU's clock was throttled: {', '.join(reasons)}.")
    found, meters = good[0].environment, good[0].meters or {}
    libraries = found["libraries"]
    clocks = sorted({s["sm_clock_mhz"] for s in states if s.get("sm_clock_mhz")})
    notes.append(
        f"{found['gpu'] or found['processor']}, {found['threads']} threads, timed by {meters.get('timer')}"
        + (f", SM clock {'/'.join(map(str, clocks))} MHz" if clocks else "")
        + f"; torch {libraries['torch']}, transformers {libraries['transformers']}, peftbench {libraries.get('peftbench', '?')}."
    )
    return notes
