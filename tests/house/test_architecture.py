"""docs/architecture.md leads to files that exist, and names every package of the ladder in its order."""

from __future__ import annotations

import re

from .test_ladder import CORE, LADDER

ROOT = CORE.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_exists() -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.py)`?", PAGE))
    assert len(named) > 40
    homes = (ROOT, CORE)
    missing = sorted(name for name in named if not any((home / name).exists() for home in homes))
    assert not missing


def test_the_drawing_is_the_ladder() -> None:
    drawn = re.findall(r"^  \w+(?:\[.*?\])? --> (\w+)", PAGE, re.MULTILINE)
    assert drawn == [*LADDER[1:]]


def test_tests_mirror_the_packages() -> None:
    """`tests/<package>/test_<module>.py` tests `peftbench/<package>/<module>.py`; contracts that several keep have their own."""
    contracts = {"test_contract.py"}
    strangers = [
        str(file.relative_to(ROOT))
        for package in (*LADDER[1:-1], ".")
        for file in sorted((ROOT / "tests" / package).glob("test_*.py"))
        if file.name not in contracts and not (CORE / package / file.name.removeprefix("test_")).is_file()
    ]
    assert not strangers
