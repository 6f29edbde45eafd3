"""A gate over several limits."""

from __future__ import annotations

import dataclasses

from peftbench.stats.estimate import Estimate, Part
from peftbench.tables.gate import FAILED, INCONCLUSIVE, judge, limit_of
from peftbench.tables.pairs import Pair, PairedFigure


def test_failing_is_shown_over_all_limits_together() -> None:
    """A fall that is beyond its limit by itself is not among eight limits; one far beyond is."""
    fall = PairedFigure("score", "score", 0.8, 0.7, Estimate(-0.02, (Part(1e-4, 1e6),), 3), relative=False)
    kept = PairedFigure("nll", "nll", 0.8, 0.8, Estimate(0.0, (Part(1e-4, 1e6),), 3), relative=False)
    one = Pair("lora", "m", "t", None, 3, 3, 3, metric="score", unit="", figures=(fall, kept))
    alone = judge([limit_of("score:-0")], [one])
    assert alone[0].outcome == FAILED
    among = judge([limit_of("score:-0"), *[limit_of("nll:-0")] * 7], [one])
    assert [verdict.outcome for verdict in among] == [INCONCLUSIVE] * 8
    far = dataclasses.replace(
        one, figures=(dataclasses.replace(fall, change=Estimate(-0.1, (Part(1e-4, 1e6),), 3)), kept)
    )
    assert judge([limit_of("score:-0"), *[limit_of("nll:-0")] * 7], [far])[0].outcome == FAILED
