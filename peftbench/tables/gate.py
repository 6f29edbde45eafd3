"""A gate for continuous integration: how much worse than A may B be, and do these runs show that it is not?

Three outcomes (protocol, section 1 i). Passed: the one-sided 95 % bound of every pair's change is on the right side of the limit, so a noisy
measurement can't pass. Failed: some pair's change is shown to be beyond it, at 5 % over all pairs and all limits together (Holm). Else
inconclusive, with the number of seeds that would decide if the change stayed what it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError, unknown
from ..stats.estimate import ALPHA, Estimate, holm
from ..stats.power import MOST_SEEDS, seeds_that_decide
from .pairs import Pair, PairedFigure
from .quantities import SCORE

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
NOT_JUDGED = "not judged"  # of one figure alone
STATUS = {PASSED: 0, FAILED: 1, INCONCLUSIVE: 3}  # the program's exit status


@dataclass(frozen=True)
class Limit:
    """How far a figure may move: `accuracy:-1.0` may fall by a point, `latency:+5%` may grow by a twentieth."""

    text: str  # as it was written
    name: str
    change: float  # in what is shown, or a fraction where `relative`; its sign says which way is worse
    relative: bool


@dataclass(frozen=True)
class Verdict:
    """What came of one limit, with the pair that decided."""

    limit: Limit
    outcome: str
    reasons: tuple[str, ...]  # a line for each pair that did not pass, or one for all


def limit_of(text: str) -> Limit:
    """A limit from the words of the command line.

    Raises:
        UsageError: it is not METRIC:CHANGE with a sign.
    """
    found = re.fullmatch(r"\s*([^:]+?)\s*:\s*([+-]\d+(?:\.\d*)?|[+-]\.\d+)\s*(%?)\s*", text)
    if found is None:
        raise UsageError(
            f"--fail-on {text!r} is not METRIC:CHANGE with a sign; write it as in accuracy:-1.0 (may fall by a point) or latency:+5%"
        )
    relative = bool(found[3])
    if relative and float(found[2]) <= -100:
        raise UsageError(f"--fail-on {text!r}: nothing can fall by 100 % or more; write a share above -100%")
    return Limit(text.strip(), found[1], float(found[2]) / (100 if relative else 1), relative)


def judge(limits: Sequence[Limit], pairs: Sequence[Pair], gone: Sequence[str] = ()) -> list[Verdict]:
    """The verdict on each limit over all pairs.

    Args:
        gone: what is in A alone: a sweep that was cut off must not look good.

    Raises:
        UsageError: no pair has such a figure, or it is not in the unit that the limit is written in.
    """
    found = [_figures(limit, pairs) for limit in limits]
    tested = [p for limit, of_it in zip(limits, found, strict=True) for p in _tests(limit, of_it)]
    corrected = iter(holm([p for p in tested if p is not None]))
    together = iter([None if p is None else next(corrected) for p in tested])
    count = sum(p is not None for p in tested)
    return [
        _judge(limit, pairs, [(pair, figure, next(together)) for pair, figure in of_it], count, gone)
        for limit, of_it in zip(limits, found, strict=True)
    ]


def status_of(verdicts: Sequence[Verdict]) -> int:
    """The exit status: 1 where some limit failed, else 3 where some is inconclusive, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return next((STATUS[outcome] for outcome in (FAILED, INCONCLUSIVE) if outcome in outcomes), 0)


def _figures(limit: Limit, pairs: Sequence[Pair]) -> list[tuple[Pair, PairedFigure]]:
    """What a limit judges."""
    found = [(pair, figure) for pair in pairs for figure in pair.named(limit.name)]
    if not (found or any(pair.problem or _lacks(limit, pair) or not pair.figures for pair in pairs)):
        known = dict.fromkeys([SCORE, *(figure.name for pair in pairs for figure in pair.figures)])
        raise unknown("--fail-on figure", limit.name, known, "one of " + ", ".join(known))
    for _, figure in found:
        if figure.relative != limit.relative:
            write = f"{limit.name}:+5%" if figure.relative else f"{limit.name}:-1.0"
            raise UsageError(
                f"--fail-on {limit.text!r}: {figure.label} changes by {'a share' if figure.relative else 'points'}; write {write}"
            )
    return found


def _lacks(limit: Limit, pair: Pair) -> bool:
    """Whether one of the two sides alone has the figure, of some seed or cell at least."""
    return (pair.metric if limit.name == SCORE else limit.name) in pair.lacking


def _tests(limit: Limit, found: Sequence[tuple[Pair, PairedFigure]]) -> list[float | None]:
    """For each figure the one-sided p of a change that is inside the limit; None where nothing tells."""
    return [
        replace(room, value=-room.value).p_above_zero()
        for room in (_room(limit, figure) for _, figure in found)
    ]


def _judge(
    limit: Limit,
    pairs: Sequence[Pair],
    found: Sequence[tuple[Pair, PairedFigure, float | None]],
    comparisons: int,
    gone: Sequence[str],
) -> Verdict:
    """The verdict on one limit; of each figure the p of being inside it, corrected for all `comparisons`."""
    lost = [f"{pair.label}: {pair.problem}" for pair in pairs if pair.problem]
    lacking = [pair.label for pair in pairs if _lacks(limit, pair)]
    outcomes = [_outcome(limit, figure, p) for _, figure, p in found]
    reasons = [
        f"{pair.label}: {_because(limit, figure, outcome, comparisons)}"
        for (pair, figure, _), outcome in zip(found, outcomes, strict=True)
        if outcome not in (PASSED, NOT_JUDGED)
    ]
    reasons += [
        f"{label}: {limit.name} is not measured in A and B for every seed and cell" for label in lacking
    ]
    reasons += [
        f"{label}: only in A; run it in B too, or compare with a store that does not have it"
        for label in gone
    ]
    outcomes += [FAILED] * len(lost) + [INCONCLUSIVE] * len(lacking) + [INCONCLUSIVE] * len(gone)
    worst = next((o for o in (FAILED, INCONCLUSIVE) if o in outcomes), PASSED)
    shown = outcomes.count(PASSED)
    if not shown and worst == PASSED:
        worst, reasons = INCONCLUSIVE, ["every method has no seeds and was measured once"]
    if worst == PASSED:
        reasons = [f"shown in {shown} of {shown} comparisons"]
    once = [pair.method for (pair, _, _), o in zip(found, outcomes, strict=False) if o == NOT_JUDGED]
    if once:
        reasons.append(
            f"not judged, because it runs once and its {found[0][1].label} has no spread: {', '.join(once)}"
        )
    return Verdict(limit, worst, (*lost, *reasons))


def _room(limit: Limit, figure: PairedFigure) -> Estimate:
    """How far the change stays on the right side of the limit: above 0 is inside, whichever way is worse."""
    edge = math.log1p(limit.change) if limit.relative else limit.change / figure.points
    sign = -math.copysign(1.0, limit.change)  # -0 forbids any fall, +0 any growth
    # One run of what has no seeds tells all that seeds can tell.
    seeds = max(2, figure.change.seeds) if figure.seedless else figure.change.seeds
    return replace(figure.change, value=sign * (figure.change.value - edge), seeds=seeds)


def _outcome(limit: Limit, figure: PairedFigure, p: float | None) -> str:
    room = _room(limit, figure)
    half = room.half_width(2 * ALPHA)
    if half is None or p is None:
        return NOT_JUDGED if half is None and figure.seedless else INCONCLUSIVE
    if room.value >= half:
        return PASSED
    return FAILED if p <= ALPHA else INCONCLUSIVE


def _because(limit: Limit, figure: PairedFigure, outcome: str, comparisons: int) -> str:
    said = f"{figure.label} {change_of(figure)}, the limit is {limit.text.partition(':')[2].strip()}"
    if outcome == FAILED:
        return said
    if figure.seedless:
        return f"{said}; it has no seeds, so only more test items would decide"
    if figure.change.one_group:
        return f"{said}; all test items are in one group, which says nothing about others"
    if figure.change.seeds < 2:
        return f"{said}; one of the {figure.over} decides nothing: run 3 or more{_with_option(figure)}"
    room = _room(limit, figure)
    needed = seeds_that_decide(room, 2 * ALPHA / (1 if room.value > 0 else comparisons))
    if needed is None:
        return f"{said}; {MOST_SEEDS} {figure.over} would not decide it"
    return f"{said}; about {needed} {figure.over} would decide, if the change stayed the same"


def _with_option(figure: PairedFigure) -> str:
    return " (--cost-runs 3)" if figure.over == "cost runs" else ""


def out_of_scale(*numbers: float | None) -> bool:
    """Whether three digits behind the point would be mostly zeros, or stand behind many before it: units may be nanometres or dollars."""
    largest = max((abs(number) for number in numbers if number is not None), default=0.0)
    return 0 < largest < 0.01 or largest >= 1e6


def change_of(figure: PairedFigure) -> str:
    """A change with its 95 % interval, as it is shown: in points, or in percent."""
    half = figure.change.half_width()
    if figure.relative:
        value = math.expm1(figure.change.value) * 100
        if half is None:
            return f"{value:+.1f} %"
        low, high = (math.expm1(figure.change.value + side) * 100 for side in (-half, half))
        return f"{value:+.1f} %" if half == 0 else f"{value:+.1f} ±{(high - low) / 2:.1f} %"
    value = figure.change.value * figure.points
    if figure.points != 100 and out_of_scale(value, None if half is None else half * figure.points):
        return f"{value:+.3g}" + ("" if half is None else f" ±{half * figure.points:.3g}")
    digits = 1 if figure.points == 100 else 3
    return f"{value:+.{digits}f}" + ("" if half is None else f" ±{half * figure.points:.{digits}f}")
