"""What is written as JSON is strict."""

from __future__ import annotations

import json
import math

from peftbench.finite import finite


def test_what_is_no_number_is_null() -> None:
    made = finite({"a": [1.5, math.nan, (math.inf, "x")], 2: True})
    assert json.loads(json.dumps(made, allow_nan=False)) == {"a": [1.5, None, [None, "x"]], "2": True}
