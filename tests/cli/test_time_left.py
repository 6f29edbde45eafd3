"""How long a comparison still takes, as it is said."""

from __future__ import annotations

import pytest

from peftbench.cli.time_left import TimeLeft


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_left_follows_from_what_was_done() -> None:
    """Two at once, of 200 s each; the second kind takes what the first does until one of it is done."""
    clock = Clock()
    left = TimeLeft(clock)
    left.planned(["training"] * 8 + ["latency"])
    assert left.seconds() is None and left.said() == ""
    left.began()
    clock.now_s += 200
    left.done("training", 200.0)
    left.done("training", 200.0)
    assert left.seconds() == pytest.approx((6 * 200 + 200) / 2)
    assert left.said() == "about 12 min left"
    clock.now_s += 50
    left.done("latency", 50.0)
    assert left.seconds() == pytest.approx(6 * 200 / (450 / 250))


def test_runs_that_were_there_tell_nothing() -> None:
    left = TimeLeft(Clock())
    left.planned(["training"] * 3)
    left.done("training", None)
    assert left.seconds() is None


def test_of_trials_alone_it_says_so_and_short_times_are_not_said() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.planned(["tuning"] * 101)
    left.began()
    clock.now_s += 60
    left.done("tuning", 60.0)
    assert left.said() == "about 1.7 h left for the trials"
    for _ in range(100):
        clock.now_s += 60
        left.done("tuning", 60.0)
    assert left.said() == ""
