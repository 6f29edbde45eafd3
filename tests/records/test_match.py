"""Figures that methods are sized to, as they are written."""

from __future__ import annotations

import pytest

from peftbench.errors import UsageError
from peftbench.records.match import Match


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("params=300k", "params", 300_000),
        ("params=1.5M", "params", 1_500_000),
        ("params= 300_000 ", "params", 300_000),
        ("params=.5b", "params", 500_000_000),
        ("stored=2MB", "stored", 2_000_000),
        ("stored=1 KiB", "stored", 1024),
    ],
)
def test_numbers_have_units(text: str, kind: str, target: int) -> None:
    assert Match.of(text) == Match(kind, target)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("300k", "unknown figure of --match: '300k'.*as in params=300k or stored=2MB"),
        ("parms=300k", "did you mean 'params'"),
        ("params=", "'' is no such number; write it as in params=300k"),
        ("params=many", "'many' is no such number"),
        ("params=-3", "'-3' is no such number"),
        ("params=0", "'0' is no such number"),
        ("params=1_", "'1_' is no such number"),
        ("params=2MB", "'2MB' is no such number; write it as in params=300k"),
        ("stored=2", "'2' is no such number; write it as in stored=2MB"),
        ("memory=8GB", "unknown figure of --match: 'memory'"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Match.of(text)
