"""What a word means on a family stands in the docs as the code has it."""

from __future__ import annotations

from pathlib import Path

from peftbench.inspection.methods_table import replaced
from peftbench.inspection.roles_table import roles_table


def test_the_page_holds_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = roles_table()
    assert replaced(page, table) == page, "run `make docs`"
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    assert "`attn.c_attn` 3/3" in rows["GPT-2"] and rows["GLM-4-MoE"].count("refused") == 2
    assert "`mlp.gate_proj`, `mlp.up_proj`" in rows["Gemma 2"]
