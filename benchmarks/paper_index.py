"""Write docs/results/lora-paper.md from the pages that `peftbench paper NAME --out docs/results/paper/MACHINE` made.

python benchmarks/paper_index.py
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
VERDICTS = ("confirmed", "contradicted", "undecided", "not testable here")
ABOUT = """# The LoRA paper's statements, tested

The pages that `peftbench paper` made, as they are: on two cores of an Intel Xeon with the starter's own models and data (`cpu`), and on one NVIDIA H100 (`h100`). Model, data, budget and machine stand at the top
of each page; [how it is done](../paper.md).

On the CPU the commands ran one after another into one store, with nothing beside them. In seconds, downloads included:
claims 274, figure3 195, figure4 47, figure5 304, figure8 33, seed 188, table1 339, table2 352, table3 368, table4 438, table5 358, table6 391, table7 231, table15 391, table16 326, table18 182.
Some found runs of others in that store. From an empty one they take longer by half of those runs' times, for two are at work at once: figure 4 by 72, figure 8 by 117, table 2 by 72,
table 6 by 68, table 7 by 34, table 16 by 32, table 18 by 49.

The H100 was there for a quarter of an hour: table 1 has 8 rounds in each of 3 processes, where `--scale small` takes more; figure 5 has
lengths 128 and 512, batches 1, 4 and 16, r = 10 and 250, and 5 rounds in each of 3 processes; the claims are those of `--scale small`. Passes of one text are launch-bound there, and their intervals wide.
Its three pages were made before the CPU's, by an earlier state of the code, with older wording and without the intervals of ratios.

A small model on a small budget says little of GPT-3: read a contradiction as "not so here".
"""


@dataclass(frozen=True)
class Found:
    """One statement on one page."""

    machine: str
    name: str
    says: str
    verdict: str
    evidence: str


def statements(file: Path) -> list[Found]:
    """Those of a page's last table."""
    lines = file.read_text(encoding="utf-8").partition("## What the paper says of it")[2].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    found = []
    for row in rows[2:]:
        says, verdict, evidence, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])
        found.append(Found(file.parent.name, file.stem, says, verdict.strip("*"), evidence))
    return found


def in_order(file: Path) -> list[str | int]:
    """cpu before the GPU, table2 before table15."""
    parts = re.split(r"(\d+)", file.stem)
    return [file.parent.name, *(int(part) if part.isdecimal() else part for part in parts)]


def main() -> None:
    files = sorted((RESULTS / "paper").glob("*/*.md"), key=in_order)
    lines = [
        ABOUT,
        "| page | machine | " + " | ".join(VERDICTS) + " |",
        "|---|---|" + "---:|" * len(VERDICTS),
    ]
    every: list[Found] = []
    for file in files:
        found = statements(file)
        every += found
        counts = Counter(one.verdict for one in found)
        title = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        cells = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
        lines.append(f"| [{title}](paper/{file.parent.name}/{file.name}) | {file.parent.name} | {cells} |")
    lines += [
        "",
        "## Every statement",
        "",
        "| page | machine | statement | verdict | evidence |",
        "|---|---|---|---|---|",
    ]
    for one in every:
        verdict = f"**{one.verdict}**" if one.verdict == "contradicted" else one.verdict
        lines.append(
            f"| [{one.name}](paper/{one.machine}/{one.name}.md) | {one.machine} | {one.says} | {verdict} | {one.evidence} |"
        )
    (RESULTS / "lora-paper.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
