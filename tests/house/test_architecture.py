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
