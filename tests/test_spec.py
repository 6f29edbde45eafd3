"""SPEC strings and the registry's three doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from peftbench import UsageError, spec


@dataclass(frozen=True)
class Toy:
    rank: int = 8
    scale: float = 1.0
    on: bool = False
    path: str = "here"
    limit: int | None = None

    def inject(self, model: Any) -> Any: ...


def build(text: str) -> Toy:
    toy: Toy = spec.build(spec.parse(text), Toy, "method")
    return toy


def test_fields_are_parsed_by_their_types() -> None:
    toy = build("toy:rank=4:scale=1e-3:on=true:path='C:/a,b.csv':limit=none")
    assert toy == Toy(4, 1e-3, True, "C:/a,b.csv", None)
    assert build("toy:limit=3").limit == 3


@pytest.mark.parametrize(
    "path", ["it's.csv", "'", "''", "a':b", "it's, here", "'x'", " x", "a''b:c", "rock 'n' roll"]
)
def test_a_value_with_apostrophes_comes_back(path: str) -> None:
    text = spec.canonical_spec("toy", Toy(path=path, rank=3))
    assert build(text) == Toy(path=path, rank=3)
    assert [spec.build(one, Toy, "method") for one in spec.parse_list(f"{text},{text}")] == [build(text)] * 2


@pytest.mark.parametrize("text", ["it's.csv", "'it's.csv'", "'it''s.csv'"])
def test_an_apostrophe_in_a_path_is_one(text: str) -> None:
    assert build(f"toy:path={text}:rank=3") == Toy(path="it's.csv", rank=3)


def test_lists_split_outside_quotes_only() -> None:
    specs = spec.parse_list("a:path='x,y:z', b ,,c:rank=2")
    assert [s.name for s in specs] == ["a", "b", "c"] and spec.parse_list("") == []
    assert specs[0].fields == (("path", "x,y:z"),)


def test_canonical_names_what_differs_from_the_default() -> None:
    assert spec.canonical_spec("toy", Toy()) == "toy"
    assert spec.canonical_spec("toy", build("toy:path='a:b':rank=4:scale=1.0")) == "toy:rank=4:path='a:b'"
    assert build(spec.canonical_spec("toy", Toy(path="a,b"))) == Toy(path="a,b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toy:rnk=4", "did you mean 'rank'"),
        ("toy:rank=four", "rank must be an int, not 'four'"),
        ("toy:scale=x", "scale must be a float"),
        ("toy:scale=nan", "scale must be a float"),
        ("toy:on=maybe", "must be true or false"),
        ("toy:rank", "not FIELD=VALUE"),
        ("toy:rank=1:rank=2", "sets 'rank' twice"),
        (":rank=1", "names nothing"),
        ("toy:path='x", "never closed; inside quotes an apostrophe is written twice"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(text)


def test_a_bar_makes_a_grid_but_not_inside_brackets_or_quotes() -> None:
    def named(text: str) -> list[str]:
        return [str(one) for one in spec.grids(text)]

    assert named("lora:rank=4|16:targets=a|b,x") == [
        "lora:rank=4:targets=a", "lora:rank=4:targets=b", "lora:rank=16:targets=a", "lora:rank=16:targets=b", "x",
    ]  # fmt: skip
    pattern = r"peft:type=lora:target_modules=.*\.(query|value)"
    assert named(pattern) == [pattern] and named("a:path='x|y'") == ["a:path=x|y"]
    assert named("a:t=(q|v)|k") == ["a:t=(q|v)", "a:t=k"]
    # What is stored is read as it is: it stands for one.
    assert [one.fields for one in spec.parse_list("a:path=x|y")] == [(("path", "x|y"),)]
    with pytest.raises(UsageError, match="has an empty alternative"):
        spec.grids("lora:rank=4|")
    with pytest.raises(UsageError, match="stands for 1,000,000 settings, above 10,000"):
        spec.grids("lora:" + ":".join(f"{name}=" + "|".join(map(str, range(100))) for name in "abc"))
