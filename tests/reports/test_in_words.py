"""What a table shows in words follows its marks."""

from __future__ import annotations

import dataclasses

import pytest

from peftbench.render.in_words import in_words
from peftbench.tables.table import Table

from ..support import results

tables = results.tables  # the fixture


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        (("best", "", ""), "lora is shown to be the best of these 3 in accuracy."),
        (("open", "open", ""), "In accuracy, lora and full can't be told apart with these seeds and items; head is shown to be worse."),
        (("open", "equivalent", ""), "In accuracy, full and lora can't be told apart with these seeds and items; head is shown to be worse."),
        (("equivalent", "equivalent", "open"), "In accuracy, lora and full are among the best and equal to the top within 1 point; head can't be told from the best with these seeds and items."),
        (("equivalent", "equivalent", "equivalent"), "In accuracy, lora, full and head are among the best and equal to the top within 1 point."),
        (("", "", ""), "No two methods have two seeds in common, which could show a difference: run them with the same --seeds."),
    ],
)  # fmt: skip
def test_it_says_what_the_marks_say(tables: list[Table], marks: tuple[str, ...], said: str) -> None:
    scored = [row for row in tables[0].rows if row.score is not None]
    rows = [
        dataclasses.replace(r, checks=(), mark=m, p_holm=None) for r, m in zip(scored, marks, strict=True)
    ]
    assert in_words(dataclasses.replace(tables[0], rows=tuple(rows))) == said
    once = tuple(dataclasses.replace(row, mark="", seeds_good=1) for row in rows)
    assert in_words(dataclasses.replace(tables[0], rows=once)).startswith("One seed can't show a difference")


def test_a_p_below_the_level_is_not_said_away(tables: list[Table]) -> None:
    """The best set asks for more than a comparison with the reference alone, so that a row of it may differ from that."""
    scored = [row for row in tables[0].rows if row.score is not None]
    each = zip(scored, ("open", "open", ""), (0.026, None, 0.001), strict=True)
    rows = [dataclasses.replace(row, checks=(), mark=mark, p_holm=p) for row, mark, p in each]
    assert in_words(dataclasses.replace(tables[0], rows=tuple(rows))) == (
        "In accuracy, each of lora and full may be the best, as far as these seeds and items tell; head is shown to be worse. By its p, "
        "lora differs from full: p compares with that one alone, and the best set all pairs, which asks for more."
    )


def test_a_row_that_fails_is_not_judged(tables: list[Table]) -> None:
    said = in_words(tables[0])
    assert said.endswith("Not judged: lora, because a check fails or seeds learned nothing.")
    alone = [row for row in tables[0].rows if row.method == "full"]
    assert in_words(dataclasses.replace(tables[0], rows=tuple(alone))) == ""
