"""A gate for continuous integration: how much worse than A may B be, and do these runs show that it is not?

Three outcomes (protocol, section 1 i). Passed: the one-sided 95 % bound of every pair's change is on the right side of the limit, so a noisy
measurement can't pass. Failed: some pair's change is shown to be beyond it, at 5 % over all pairs together. Else inconclusive, with the
number of seeds that would decide if the change stayed what it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import stats
from .advise import MOST_SEEDS, seeds_that_tell
from .errors import UsageError, unknown
from .pairs import SCORE, Figure, Pair

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
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
    found = re.fullmatch(r"\s*([\w.-]+)\s*:\s*([+-]\d+(?:\.\d*)?|[+-]\.\d+)\s*(%?)\s*", text)
    if found is None:
        raise UsageError(
            f"--fail-on {text!r} is not METRIC:CHANGE with a sign; write it as in accuracy:-1.0 (may fall by a point) or latency:+5%"
        )
    relative = bool(found[3])
    return Limit(text.strip(), found[1], float(found[2]) / (100 if relative else 1), relative)


def judge(limits: Sequence[Limit], pairs: Sequence[Pair]) -> list[Verdict]:
    """The verdict on each limit over all pairs.

    Raises:
        UsageError: no pair has such a figure, or it is not in the unit that the limit is written in.
    """
    return [_judge(limit, pairs) for limit in limits]


def status_of(verdicts: Sequence[Verdict]) -> int:
    """The exit status: 1 where some limit failed, else 3 where some is inconclusive, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return next((STATUS[outcome] for outcome in (FAILED, INCONCLUSIVE) if outcome in outcomes), 0)


def _judge(limit: Limit, pairs: Sequence[Pair]) -> Verdict:
    found = [(pair, figure) for pair in pairs for figure in pair.named(limit.name)]
    if not found and not any(pair.problem for pair in pairs):
        known = dict.fromkeys([SCORE, *(figure.name for pair in pairs for figure in pair.figures)])
        raise unknown("--fail-on figure", limit.name, known, "one of " + ", ".join(known))
    for _, figure in found:
        if figure.relative != limit.relative:
            write = f"{limit.name}:+5%" if figure.relative else f"{limit.name}:-1.0"
            raise UsageError(f"--fail-on {limit.text!r}: {figure.label} changes by {'a share' if figure.relative else 'points'}; write {write}")  # fmt: skip
    outcomes = [_outcome(limit, figure, len(found)) for _, figure in found]
    reasons = [
        f"{pair.label}: {_because(limit, figure, outcome)}"
        for (pair, figure), outcome in zip(found, outcomes, strict=True)
        if outcome != PASSED
    ]
    lost = [f"{pair.label}: {pair.problem}" for pair in pairs if pair.problem]
    outcomes += [FAILED] * len(lost)
    unmeasured = [pair.label for pair in pairs if not pair.named(limit.name) and not pair.problem]
    if unmeasured:
        outcomes.append(INCONCLUSIVE)
        reasons.append(f"not in both sets: {', '.join(unmeasured)}")
    worst = next((o for o in (FAILED, INCONCLUSIVE) if o in outcomes), PASSED)
    if not reasons and not lost:
        reasons = [f"shown in {len(found)} of {len(found)} comparisons"]
    return Verdict(limit, worst, (*lost, *reasons))


def _room(limit: Limit, figure: Figure) -> stats.Estimate:
    """How far the change stays on the right side of the limit: above 0 is inside, whichever way is worse."""
    edge = math.log1p(limit.change) if limit.relative else limit.change / figure.points
    sign = 1.0 if limit.change < 0 else -1.0
    return replace(figure.change, value=sign * (figure.change.value - edge))


def _outcome(limit: Limit, figure: Figure, comparisons: int) -> str:
    room = _room(limit, figure)
    half, wide = room.half_width(2 * stats.ALPHA), room.half_width(2 * stats.ALPHA / comparisons)
    if half is None or wide is None or (room.seeds < 2 and room.variance):
        return INCONCLUSIVE
    if room.value >= half:
        return PASSED
    return FAILED if room.value < -wide else INCONCLUSIVE


def _because(limit: Limit, figure: Figure, outcome: str) -> str:
    said = f"{figure.label} {change_of(figure)}, the limit is {limit.text.partition(':')[2].strip()}"
    if outcome == FAILED:
        return said
    if figure.change.seeds < 2:
        return f"{said}; one of the {figure.over} decides nothing, run 3 or more"
    needed = seeds_that_tell(_room(limit, figure))
    if needed is None:
        return f"{said}; {MOST_SEEDS} {figure.over} would not decide it"
    return f"{said}; about {needed} {figure.over} would decide, if the change stayed what it is"


def change_of(figure: Figure) -> str:
    """A change with its 95 % interval, as it is shown: in points, or in percent."""
    half = figure.change.half_width()
    if figure.relative:
        value = math.expm1(figure.change.value) * 100
        if half is None:
            return f"{value:+.1f} %"
        low, high = (math.expm1(figure.change.value + side) * 100 for side in (-half, half))
        return f"{value:+.1f} %" if half == 0 else f"{value:+.1f} ±{(high - low) / 2:.1f} %"
    value = figure.change.value * figure.points
    digits = 1 if figure.points == 100 else 3
    return f"{value:+.{digits}f}" + ("" if half is None else f" ±{half * figure.points:.{digits}f}")
