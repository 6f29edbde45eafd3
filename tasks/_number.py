"""The number that a text answers with, and whether two answers are one number.

Where the answer stands, the first of these that the text has, the last where it is there several times:

1. behind `####`, as GSM8K's solutions end (Cobbe et al. 2021);
2. in `\\boxed{}`, as those of MATH end (Hendrycks et al. 2021);
3. behind "answer is", as those of MetaMathQA end (Yu et al. 2024);
4. otherwise it is the last number of the text.

In the places 1 to 3 it is the first number of the line (of what stands behind its last `=`, if that has one). A place without
a number is no answer, whatever stands before it. Numbers are compared as exact fractions: .5 is 1/2, 0.33 is not 1/3.

A number is made of digits, with a sign, commas between groups of three (`1,234,567.5`), a point, a fraction (`3/4`, `1 1/2`, `\\frac{3}{4}`)
or a power of ten (`1e3`, `1.5 x 10^3`). What else is beside it is its unit and is not read: `$5`, `50%` and `5 apples` are 5, 50 and 5. So
`50%` is not `0.5`, which is how GSM8K has it. None of these is a number: words (`five`), ordinals (`3rd`), dates and ranges in digits
(`2020-05-12`, `3-5`), times and ratios (`3:30`), what is raised to a power, exponents, indices (`x_1`), digits in a word (`A4`), and commas
and points that are not those of English (`1.234,5`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

MOST_DIGITS = (
    400  # of a number, with the zeros of its power of ten: more is no answer, and would take time and memory
)

COINS = "$€£¥₹"
_THIN = "\u00a0\u2009\u202f"  # spaces that do not break: between groups of three they are what commas are
_SAME = str.maketrans(
    {
        "\u2212": "-",
        "\uff0d": "-",
        "\u2013": "-",
        "\u2044": "/",
        "\u200b": None,
        "\u2060": None,
        "\ufeff": None,
    }
    | {"½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅛": " 1/8"}
)
_PLAIN_LATEX = (
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;: ]"), "\u2009"),
    (re.compile(r"\^(?:\\circ|\{\\circ\})"), " "),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox) ?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"([0-9] ?)?\\[dt]?frac ?(?:\{ ?([^{}]*?) ?\} ?\{ ?([^{}]*?) ?\}|([0-9]) ?([0-9]))"), None),
)

# Not in a word, an exponent, an index, or in the middle of another run.
_START = r"(?<![0-9A-Za-z_^])(?<![_^]\{)(?<![_^]-)(?<![0-9][.,:/-])"
_POWER = (
    r"[eE](?P<e>[-+]?[0-9]+)(?![0-9A-Za-z])| ?(?:x|×|\*|\\times|\\cdot) ?10 ?\^ ?\{? ?(?P<ten>[-+]?[0-9]+)\}?"
)
_RUN = re.compile(
    rf"{_START}(?:(?P<whole>[0-9]+)[ \u2009](?=[0-9]+/[0-9]))?(?P<run>\.?[0-9][0-9.,:/-]*)(?:{_POWER})?(?P<after>\^|[⁰¹²³⁴-⁹]|(?:st|nd|rd|th)\b)?"
)
_SIGN = re.compile(rf"-(?:[{COINS}] ?)?$")
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?)"
_WELL_FORMED = re.compile(rf"({_NUMBER})(?:/({_NUMBER}))?")
_SAID = re.compile(r"\banswer is\b:?", re.IGNORECASE)


def answer(text: str) -> Fraction | None:
    """The number that a text answers with; None: it has none."""
    text = _plain(text)
    if "####" in text:
        return _first(text.rpartition("####")[2])
    if "\\boxed" in text:
        return _first(_boxed(text))
    if said := list(_SAID.finditer(text)):
        return _first(text[said[-1].end() :])
    return next(iter(deque(_numbers(text), maxlen=1)), None)


def numbers(text: str) -> list[Fraction]:
    """Every number of a text, in its order."""
    return list(_numbers(_plain(text)))


def _plain(text: str) -> str:
    """With one kind of minus and of fraction, and without what LaTeX puts around a number."""
    text = text.translate(_SAME)
    for pattern, plain in _PLAIN_LATEX:
        text = pattern.sub(_fraction if plain is None else plain, text)
    return re.sub(rf"(?<=[0-9])[{_THIN}](?=[0-9]{{3}}(?![0-9]))", "", text)


def _fraction(found: re.Match[str]) -> str:
    whole, above, below = found[1], found[2] or found[4], found[3] or found[5]
    return f"{whole.strip()} {above}/{below}" if whole else f"{above}/{below}"


def _boxed(text: str) -> str:
    """What is in the last box; nothing where it is not closed, as in a text that was cut off."""
    content = text.rpartition("\\boxed")[2].lstrip()
    depth = 0
    for at, letter in enumerate(content):
        depth += (letter == "{") - (letter == "}")
        if depth <= 0:
            return content[1:at]
    return ""


def _first(place: str) -> Fraction | None:
    """Of a place that holds the answer, its first number, behind a `=` if there is one."""
    line = place.lstrip().partition("\n")[0]
    found = (next(_numbers(part), None) for part in (line.rpartition("=")[2], line))
    return next((number for number in found if number is not None), None)


def _numbers(text: str) -> Iterator[Fraction]:
    for found in _RUN.finditer(text):
        if (size := _read(found)) is not None:
            yield -size if _is_negative(text[max(0, found.start() - 20) : found.start()]) else size


def _read(found: re.Match[str]) -> Fraction | None:
    """A run of digits without its sign; None: it is no number."""
    run = found["run"]
    if found["after"] or len(run) > MOST_DIGITS or len(found["whole"] or "") > MOST_DIGITS:
        return None
    parts = _WELL_FORMED.fullmatch(run.rstrip(".,:/-"))
    power = found["e"] or found["ten"] or "0"
    if parts is None or len(power) > 5 or abs(int(power)) > MOST_DIGITS:
        return None
    above, below = (Fraction((part or "1").replace(",", "").rstrip(".")) for part in parts.groups())
    if below == 0:
        return None
    return (int(found["whole"] or 0) + above / below) * Fraction(10) ** int(power)


def _is_negative(before: str) -> bool:
    """Whether a number has a minus before it, by the text up to it: one between two numbers is no sign of the second."""
    sign = _SIGN.search(before)
    if sign is None:
        return False
    beside = before[: sign.start()]
    if beside.endswith(" "):
        return not re.search(r"[0-9)}%]$", beside.rstrip())
    return not re.search(r"[0-9A-Za-z)}%]$", beside)
