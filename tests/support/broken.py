"""Broken inputs out of good ones: cut, swapped, retyped, renamed, nested, always the same for a seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

STRANGE: list[Any] = [
    None, True, "", "x", "1", -1, 0, 0.5, 1e308, -1e308, 10**30, float("nan"), float("inf"), [], {}, [[]], [None], {"a": {}},
    "\x1b[31m", "a" * 300, "../../x", "\ud800", "%s {0} $x", 2**63, ["x"] * 3, "0x10", "１",
]  # fmt: skip
PIECES = ["\0", "\x1b[2J", '"', "'", ",", "\n", "\r", "\t", ":", "=", "{", "}", "[", "]", "(", "\\", "é", "\ufeff", "999999999999999999999", "nan"]  # fmt: skip


def broken_json(value: Any, draw: random.Random) -> str:
    """The text of a JSON value in which something is not as it was."""
    if draw.random() < 0.15:
        return broken_text(json.dumps(value), draw)
    made = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        holder, key = draw.choice(list(_places(made)))
        how = draw.choice(("retype", "retype", "rename", "nest", "drop", "swap"))
        if how == "retype":
            holder[key] = copy.deepcopy(draw.choice(STRANGE))
        elif how == "nest":
            holder[key] = draw.choice(([holder[key]], {"value": holder[key]}))
        elif how == "drop":
            del holder[key]
        elif how == "swap":
            other = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder[key], holder[other] = holder[other], holder[key]
        elif isinstance(holder, dict):
            holder[draw.choice((f"{key}s", key.upper(), ""))] = holder.pop(key)
        if not list(_places(made)):
            break
    return json.dumps(made)


def broken_text(text: str, draw: random.Random) -> str:
    """A text in which something is not as it was."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        a, b = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        how = draw.choice(("cut", "drop", "insert", "swap", "double", "replace"))
        short = slice(a, min(b, a + draw.choice((1, 3, 20))))
        if how == "cut":
            text = text[:a]
        elif how == "drop":
            text = text[:a] + text[short.stop :]
        elif how == "insert":
            text = text[:a] + draw.choice(PIECES) + text[a:]
        elif how == "swap":
            lines = text.split("\n")
            one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            text = "\n".join(lines)
        elif how == "double":
            text = text[:b] + text[short] + text[b:]
        else:
            text = text[:a] + draw.choice(PIECES) + text[short.stop :]
    return text


def broken_bytes(content: bytes, draw: random.Random) -> bytes:
    """A file's content that was cut short, or in which some bytes are others."""
    if draw.random() < 0.4:
        return content[: draw.randrange(len(content))]
    made = bytearray(content)
    for _ in range(draw.choice((1, 4, 30))):
        made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made)


def broken_words(words: list[str], draw: random.Random) -> list[str]:
    """A command line in which something is not as it was."""
    made = list(words)
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(len(made)) if made else 0
        how = draw.choice(("drop", "replace", "retype", "insert", "swap", "break"))
        odd = draw.choice([str(value) for value in STRANGE if isinstance(value, str | int | float)] + PIECES)
        odd = odd.replace("\0", "").encode("utf-8", "replace").decode()
        if not made or how == "insert":
            made.insert(place, draw.choice((odd, "--", "--nothing", "-x", *words)))
        elif how == "drop":
            del made[place]
        elif how == "swap":
            other = draw.randrange(len(made))
            made[place], made[other] = made[other], made[place]
        elif how == "break":
            made[place] = broken_text(made[place], draw).replace("\0", "")
        else:
            made[place] = odd
    return made


def _places(value: Any) -> Any:
    """Every (object or list, key) of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
