"""Turns favour nobody."""

from __future__ import annotations

import itertools
from collections import Counter

from peftbench.measure.turns import turns


def test_turns_favour_nobody() -> None:
    """Over many rounds each subject follows each other one about as often, and never itself."""
    orders = list(turns("abcd", 2000))
    assert orders == list(turns("abcd", 2000)) and all(sorted(order) == list("abcd") for order in orders)
    line = [name for order in orders for name in order]
    pairs = Counter(itertools.pairwise(line))
    assert all(one != other for one, other in pairs)
    # 12 pairs in 7,999 places: 667 each, its standard deviation below 26.
    assert len(pairs) == 12 and all(abs(count - 667) < 4 * 26 for count in pairs.values())
    assert list(turns("a", 2)) == [["a"], ["a"]]
