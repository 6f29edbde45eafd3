"""The number that a text answers with, on texts made by hand, and that no text takes long or ends the program."""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from types import ModuleType

import pytest

from peftbench.plugins.registry import load


def number() -> ModuleType:
    """tasks/_number.py, as the tasks have it."""
    return sys.modules[f"{load('task')['gsm8k'].target.__module__.rpartition('.')[0]}._number"]


# What a text says, and the number that it answers with as a fraction; None: it has no answer.
TEXTS: dict[str, str | None] = {
    # where the answer stands
    "48 / 2 = 24, and 48 + 24 = 72.\n#### 72": "72",
    "#### 42.": "42",
    "####42": "42",
    "#### \n42": "42",
    "#### 5\nwait\n#### 7": "7",
    "#### 5 apples and 3 pears": "5",
    "#### 4 + 3 = 7": "7",
    "#### x = 7 or so": "7",
    "#### The answer is 42": "42",
    "#### none\n12": None,
    "He has 12.\n####": None,
    "\\boxed{5} and then \\boxed{6}, or 7": "6",
    "\\boxed{5} #### 6": "6",
    "The answer is 5, as 2 + 3 shows.": "5",
    "The answer is 5. No, the final answer is: 6\nas 2 + 4 shows.": "6",
    "The answer is: $4^2 = 16$": "16",
    "The answer is \\boxed{16}, not 17.": "16",
    "So the answer is": None,
    "He had 5 and bought 7, so 12 in all.": "12",
    "": None,
    "I do not know.": None,
    # boxes
    "\\boxed{\\frac{3}{4}}": "3/4",
    "\\boxed{-\\dfrac{3}{4}}": "-3/4",
    "\\boxed{2\\frac{1}{2}}": "5/2",
    "\\boxed{\\frac12}": "1/2",
    "\\boxed{\\text{about } {42} \\text{ apples}}": "42",
    "\\boxed{\\boxed{5}}": "5",
    "\\boxed{\\$1{,}234.50}": "2469/2",
    "\\boxed{1\\,234}": "1234",
    "\\boxed{90^\\circ}": "90",
    "\\boxed{x = 3}": "3",
    "\\boxed{50\\%}": "50",
    "12 \\boxed{42": None,
    "12 \\boxed{}": None,
    # signs
    "-7": "-7",
    "−7": "-7",
    "(-7)": "-7",
    "-0": "0",
    "-$5": "-5",
    "$-5": "-5",
    "-1 1/2": "-3/2",
    "10 -5": "5",
    "10-inch": "10",
    "x-5": "5",
    "- 5 apples": "5",
    # commas, points, units
    "$1,234.50": "2469/2",
    "1,234,567": "1234567",
    "1,234, or so": "1234",
    "1\u202f234\u2009567": "1234567",
    "0.50": "1/2",
    ".5": "1/2",
    "5.": "5",
    "5...": "5",
    "50%": "50",
    "**5**": "5",
    "5kg": "5",
    "€5": "5",
    "5 apples": "5",
    "1.234": "617/500",
    "1.234,5": None,
    "1.234.567": None,
    "0,5": None,
    "12,34": None,
    # fractions and powers of ten
    "3/4": "3/4",
    "6/8": "3/4",
    "1 1/2 cups": "3/2",
    "1½": "3/2",
    "¾": "3/4",
    "3/0": None,
    "0.5/0.25": "2",
    "1e3": "1000",
    "1.5E-3": "3/2000",
    "1.5 x 10^3": "1500",
    "1.5 \\times 10^{3}": "1500",
    "25 cm^2": "25",
    "5^2": None,
    "5²": None,
    # no numbers
    "forty-two": None,
    "the 3rd": None,
    "42, on the 21st": "42",
    "2020-05-12": None,
    "12/05/2020": None,
    "42 on 2020-05-12": "42",
    "3:30 p.m.": None,
    "3-5 days": None,
    "room A4": None,
    "x_1": None,
    "٥": None,
    # beyond all bounds
    "1e999999999": None,
    "5 x 10^-999999999": None,
    "9" * 5000: None,
    "9" * 400: "9" * 400,
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:40])
def test_the_number_of_a_text(text: str) -> None:
    wanted = TEXTS[text]
    assert number().answer(text) == (None if wanted is None else Fraction(wanted))


def test_every_number_of_a_text() -> None:
    found = number().numbers("5 of 1,000 on the 3rd, -2.5 and 1/3, at 3:30")
    assert found == [5, 1000, Fraction(-5, 2), Fraction(1, 3)]


@pytest.mark.parametrize(
    "text",
    ["9", "1,", "1 ", "1/", "-", "\\boxed{", "\\frac{", "\\text{", "#### ", "the answer is ", " ", "{", "1e9", "1^", "x 10^9 "],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    """Time grows with the length: a model may write one thing over and over."""
    began = time.process_time()
    number().answer(text * 4000 + "5")
    assert time.process_time() - began < 2
