"""What `--match` sizes methods to: one figure, the same for all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError, unknown

BYTES_OF_A_NUMBER = 4  # what trains is float32
WITHIN = 0.10  # a method that comes no nearer is a row that says so
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
UNITS = {"params": _COUNTS, "stored": _BYTES}  # of each figure
SPELLED = {"params": "k, M or B", "stored": "kB, MB, GB, KiB, MiB or GiB"}
EXAMPLES = {"params": "params=300k", "stored": "stored=2MB"}


@dataclass(frozen=True)
class Match:
    """A figure and the value that it is to have."""

    kind: str  # "params": numbers that train, without the head; "stored": bytes of the saved numbers, without the head
    target: int

    @classmethod
    def of(cls, text: str, option: str = "--match") -> Match:
        """Read `params=300k` or `stored=2MB`.

        Raises:
            UsageError: it is neither.
        """
        kind, equals, value = (part.strip() for part in text.partition("="))
        if not equals or kind not in UNITS:
            raise unknown(f"figure of {option}:", kind, UNITS, f"as in {' or '.join(EXAMPLES.values())}")
        found = re.fullmatch(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*)", value)
        unit = UNITS[kind].get(found[2].lower()) if found else None
        if found is None or unit is None or (target := round(float(found[1]) * unit)) < 1:
            raise UsageError(
                f"{option} {text!r}: {value!r} is no such number; write it as in {EXAMPLES[kind]} ({SPELLED[kind]})"
            )
        return cls(kind, target)

    @property
    def said(self) -> str:
        """As a footnote says it."""
        return f"{self.target:,} {'trained parameters' if self.kind == 'params' else 'bytes stored'}"


def check_match(option: str, text: str | None) -> None:
    """Refuse what is no figure.

    Raises:
        UsageError: it is none.
    """
    if text is not None:
        Match.of(text, option)
