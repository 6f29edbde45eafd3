"""docs/methods.md holds the table that the registry gives, and docs/add-a-method.md a method that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peftbench.errors import UsageError
from peftbench.inspection.check_method import check_file
from peftbench.inspection.methods_table import BEGIN, CONFIGS, END, built_in, methods_table, replaced

ROOT = Path(__file__).resolve().parents[2]
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
WALK = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table() -> str:
    return methods_table(built_in())


def test_the_table_is_current(table: str) -> None:
    assert replaced(METHODS, table) == METHODS, "run `make docs`"


def test_every_method_is_in_the_table_with_its_facts(table: str) -> None:
    rows = {cells[1].strip(" `"): cells[2:-1] for line in table.splitlines()
            if line.startswith("| `") and (cells := re.split(r"(?<!\\)\|", line))}  # fmt: skip
    assert sorted(rows) == sorted(entry.name for entry in built_in())
    for entry in built_in():
        facts = entry.declared.facts
        assert facts is not None and facts.equation and facts.count and facts.stored, entry.name
        assert re.fullmatch(r"(arXiv \d{4}\.\d{4,5}(, arXiv \d{4}\.\d{4,5})*)?", facts.paper), entry.name
        # What the table says is what the file's docstring says, which the formulas' tests hold to.
        for number in re.findall(r"\d{4}\.\d{4,5}", facts.paper):
            assert number in entry.path.read_text(encoding="utf-8"), entry.name
    assert len(CONFIGS) == 9


def test_the_stored_bytes_are_those_of_the_formulas(table: str) -> None:
    """At BERT-base's sizes: 12 blocks of width 768, feed-forward 3072, float32."""
    kilobytes = {
        "lora": 12 * 2 * 8 * 2 * 768 * 4 / 1000,
        "adapter-h": 12 * 2 * (2 * 8 * 768 + 8 + 768) * 4 / 1000,
        "prefix": 2 * 12 * 768 * 16 * 4 / 1000,
        "head": 0,
    }
    for name, expected in kilobytes.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        assert f": {expected:,.0f} |" in row, row


def test_families_that_cannot_be_served_stand_below_with_the_reason(table: str) -> None:
    row = next(line for line in table.splitlines() if line.startswith("| `prefix` |"))
    assert "| all but DeBERTa |" in row
    assert "- DeBERTa, `prefix`: deberta-v2 models do not take a prefix" in table


def test_a_page_without_marks_is_refused(table: str) -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(UsageError, match="has no place"):
        replaced("nothing", table)


def test_the_walk_through_leads_to_a_method_that_keeps_its_claims(tmp_path: Path) -> None:
    """The file on the page, as it stands in the end."""
    (final,) = re.findall(r"```python\n(.*?)```", WALK, re.DOTALL)
    file = tmp_path / "ssf.py"
    file.write_text(final)
    assert len([line for line in final.splitlines() if line.strip()]) <= 40
    checked = check_file(str(file), (), tmp_path)
    assert checked and {one.outcome for one in checked} == {"pass", "not claimed"}
    assert {one.family for one in checked} == {"tiny-encoder-x4", "tiny-decoder-x4", "tiny-fused-x4"}
