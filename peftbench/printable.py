"""Text that a terminal shows and does not obey: names of files, columns and models may hold control characters."""

from __future__ import annotations

import re

# C0 and C1 without tab and newline, and the marks that turn the direction of writing.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The same with each control character written as Python escapes it, and with bytes that are no text replaced."""
    escaped = _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return escaped.encode("utf-8", "replace").decode("utf-8")
