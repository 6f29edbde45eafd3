"""How a check may come out."""

PASS, FAIL, NOT_CLAIMED, NOT_TESTED = "pass", "fail", "not claimed", "not tested"
