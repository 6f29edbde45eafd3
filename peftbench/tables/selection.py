"""What a report is made of, chosen once: which settings, which rate of each method, which reference, which rule of looks.

Tables, footnotes, pairs, summaries, gates and advice read one selection, and so do `run` and `report`. Nothing of it hangs on
when a run was done, nor on where its record stands: the same records give the same selection in any order. Where it would
have to guess it does not choose, and says so.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..parallel import parallel_map
from ..records.joint import by_method
from ..records.record import Record
from ..records.results import Result, newest_source
from ..records.setting import Setting, setting_of
from ..stats.sequential import SeedSchedule
from .rate_curve import RateCurve, rate_curve
from .reference import standing_in

MethodAtRate = tuple[str, float]  # its SPEC and its learning rate


@dataclass(frozen=True)
class Asked:
    """What differences are taken to, and which rates are selected."""

    method: str  # SPEC
    rate: float | None = None  # None: the only one, or the tuned one
    all_rates: bool = False  # also those beside a method's tuned one

    @classmethod
    def of(cls, text: str) -> Asked:
        """From `lora`, or from `lora at 0.02` as a table has it."""
        found = re.fullmatch(r"(.+?) at ([0-9.eE+-]+)", text)
        try:
            return cls(text) if found is None else cls(found[1], float(found[2]))
        except ValueError:
            return cls(text)


@dataclass(frozen=True)
class Selected:
    """The runs of one setting that a table is made of."""

    setting: Setting
    rows: Mapping[MethodAtRate, tuple[Result, ...]]  # by seed
    curves: Mapping[str, RateCurve]  # by method, of its trials on validation
    reference: MethodAtRate | None
    unchosen: str | None  # why there is no reference, where its method has several rates or no finished run
    instead_of: str | None  # the method asked for as reference, where another one stands in for it
    left_out: tuple[MethodAtRate, ...]  # rates beside a tuned one
    rules: tuple[SeedSchedule, ...]  # by which seeds were added
    latencies: Mapping[str, tuple[Record, ...]]  # by method
    cost_runs: Mapping[str, tuple[Record, ...]]  # by method, one a process
    stale: int = 0  # results of an older source of a method, in all settings
    of_another_part: int = 0  # runs of another version, which scored other items

    @property
    def reported(self) -> list[Result]:
        """The runs of all rows."""
        return [result for group in self.rows.values() for result in group]

    def seeds(self, only: MethodAtRate | None = None) -> list[int]:
        """Seeds that some row, or one of them, has a good run of; one that stands for all seeds is none."""
        groups = self.rows.values() if only is None else [self.rows[only]]
        return sorted(
            {
                result.record.run.seed
                for group in groups
                for result in group
                if result.record.status == "ok" and not result.seedless
            }
        )

    def label(self, row: MethodAtRate) -> str:
        """What a row is called: the method, with its rate where it has several."""
        return row[0] if len(self.rates(row[0])) < 2 else f"{row[0]} at {row[1]:g}"

    def rates(self, method: str) -> list[float]:
        """The rates of a method among the rows."""
        return [rate for name, rate in self.rows if name == method]


def select(
    results: Iterable[Result], asked: Asked, baselines: Sequence[str] = (), rule: SeedSchedule | None = None
) -> list[Selected]:
    """One selection for each setting among some results that has a reported run.

    Args:
        baselines: methods that stand last, in this order.
        rule: by which seeds were added, beside those that the records name.
    """
    read = [by_method([result]) for result in results]
    current = newest_source([part for its in read for part in its])
    kept = {id(part) for part in current}
    by_setting: dict[Setting, list[Result]] = {}
    latencies: dict[tuple[str, Hashable], list[Record]] = {}
    cost_runs: dict[tuple[str, Hashable], list[Record]] = {}
    for result in sorted(_once(current), key=_place):
        run, setting = result.record.run, setting_of(result.record.run)
        if run.kind == "latency":
            latencies.setdefault((run.method, setting.forward_pass), []).append(result.record)
        elif run.kind == "profile":
            cost_runs.setdefault((run.method, setting.training_step), []).append(result.record)
        elif run.kind in ("training", "tuning"):
            by_setting.setdefault(setting, []).append(result)
    settings = [
        setting
        for setting in sorted(by_setting, key=_setting_place)
        if any(r.record.run.kind == "training" for r in by_setting[setting])
    ]
    curves = parallel_map(lambda i: _curves(by_setting[settings[i]]), len(settings), len(current))
    selected = []
    for setting, its_curves in zip(settings, curves, strict=True):
        group = _on_one_part(by_setting[setting])
        one = _selected(setting, group, its_curves, asked, baselines)
        methods = dict.fromkeys(method for method, _ in one.rows)
        selected.append(
            dataclasses.replace(
                one,
                rules=tuple(sorted({*one.rules, *([rule] if rule else [])}, key=dataclasses.astuple)),
                latencies={m: _of_one_version(latencies.get((m, setting.forward_pass), ())) for m in methods},
                cost_runs={
                    m: _of_one_version(cost_runs.get((m, setting.training_step), ())) for m in methods
                },
                stale=sum(any(id(part) not in kept for part in its) for its in read),
                of_another_part=len(by_setting[setting]) - len(group),
            )
        )
    return selected


def _on_one_part(group: Sequence[Result]) -> Sequence[Result]:
    """Those whose items pair: versions choose the scored part of a split differently. This version's part, else that of most."""
    parts = Counter(part for result in group if (part := result.record.part_scored) is not None)
    kept = max(parts, key=lambda part: (part[0], parts[part], part[1]), default=None)
    return [result for result in group if result.record.part_scored in (None, kept)]


def _of_one_version(timed: Sequence[Record]) -> tuple[Record, ...]:
    """Processes are averaged: those of the present version of the program alone, where there are any."""
    return tuple([record for record in timed if not record.is_older] or timed)


def _curves(group: Iterable[Result]) -> dict[str, RateCurve]:
    """Of each method that was tuned, from its trials."""
    tried: dict[str, list[Result]] = {}
    for result in group:
        if result.record.run.kind == "tuning":
            tried.setdefault(result.record.run.method, []).append(result)
    return {method: rate_curve(its) for method, its in tried.items()}


def _selected(
    setting: Setting,
    group: Sequence[Result],
    curves: Mapping[str, RateCurve],
    asked: Asked,
    baselines: Sequence[str],
) -> Selected:
    rows: dict[MethodAtRate, list[Result]] = {}
    for result in group:
        run = result.record.run
        if run.kind == "training":
            rows.setdefault((run.method, run.learning_rate), []).append(result)
    tuned = {
        (method, chosen.learning_rate)
        for method, curve in curves.items()
        if (chosen := curve.chosen) is not None and (method, chosen.learning_rate) in rows
    }
    settled = {method for method, _ in tuned}
    left_out = [
        row
        for row in rows
        if row[0] in settled
        and row not in tuned
        and not asked.all_rates
        and row != (asked.method, asked.rate)
    ]
    last = {name: place for place, name in enumerate(baselines)}
    kept = sorted(
        (row for row in rows if row not in left_out),
        key=lambda row: (last.get(row[0], -1), _natural(row[0]), row[1]),
    )
    finished = {row[0] for row in kept if any(result.record.status == "ok" for result in rows[row])}
    method, unchosen = standing_in(asked.method, {method for method, _ in kept}, finished)
    wanted = asked if method == asked.method else Asked(method)
    reference, several = _reference(wanted, kept, tuned)
    rules = {r for result in group for r in map(SeedSchedule.from_json, result.record.rules) if r is not None}
    return Selected(
        setting=setting,
        rows={row: tuple(rows[row]) for row in kept},
        curves=curves,
        reference=reference,
        unchosen=unchosen or several,
        instead_of=None if wanted is asked else asked.method,
        left_out=tuple(sorted(left_out)),
        rules=tuple(rules),
        latencies={},
        cost_runs={},
    )


def _reference(
    asked: Asked, rows: Sequence[MethodAtRate], tuned: set[MethodAtRate]
) -> tuple[MethodAtRate | None, str | None]:
    """The row that differences are taken to, or why none is: of several rates the one named, else the tuned one."""
    its = [row for row in rows if row[0] == asked.method]
    if asked.rate is not None:
        return next(((row, None) for row in its if row[1] == asked.rate), (None, None))
    if len(its) < 2:
        return (its[0] if its else None), None
    for row in its:
        if row in tuned:
            return row, None
    rates = " and ".join(f"{rate:g}" for _, rate in its)
    return None, (
        f"No differences: {asked.method} has the learning rates {rates}, none of them tuned; name one, as in "
        f"--baseline '{asked.method} at {its[0][1]:g}'"
    )


def _once(results: Sequence[Result]) -> list[Result]:
    """Each run once: this version's before an older one's, and of those with and without a look at what it forgets and retains
    the one that tells more.
    """
    kept: dict[str, Result] = {}

    def tells(result: Result) -> tuple[bool, bool, int, str]:
        record = result.record
        of_this_version = not record.is_older
        looks = (record.run.forgetting is not None) + len(record.run.retain)
        return of_this_version, record.status == "ok", looks, record.started_at

    for result in sorted(results, key=tells):
        kept[result.record.run.without_looks.key] = result
    return list(kept.values())


def _place(result: Result) -> tuple[Any, ...]:
    """An order that does not hang on when a run was done."""
    run = result.record.run
    return run.seed, run.method, run.learning_rate, result.record.key


def _setting_place(setting: Setting) -> tuple[Any, ...]:
    budget = setting.budget
    size = float("inf") if budget.train_items is None else float(budget.train_items)
    rest = tuple(str(value) for value in dataclasses.astuple(setting))
    return (
        _natural(setting.model),
        _natural(setting.task),
        size,
        budget.steps or 0,
        budget.epochs or 0.0,
        rest,
    )


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `rank=2` before `rank=16`."""
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part)
