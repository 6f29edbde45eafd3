"""Text that a terminal shows and does not obey: names of files, columns and models may hold control characters."""

from __future__ import annotations

import re

# C0 and C1 without tab and newline, and the marks that turn the direction of writing.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


_STYLE = re.compile("(\x1b\\[[0-9;]*m)")  # colour and weight, which a terminal may obey


def printable(text: str, styled: bool = False) -> str:
    """The same with each control character written as Python escapes it, and with bytes that are no text replaced.

    Args:
        styled: colours and weights are left as they are, where a report has set them.
    """
    parts = _STYLE.split(text) if styled else [text]
    parts[::2] = [
        _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), part) for part in parts[::2]
    ]
    return "".join(parts).encode("utf-8", "replace").decode("utf-8")
