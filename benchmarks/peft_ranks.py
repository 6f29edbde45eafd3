"""Which ranks of PEFT's published MetaMathQA table survive the error of its test items? Prints docs/results/peft_ranks.md's table.

    python benchmarks/peft_ranks.py [CSV file with the columns of --published]

63 results, each one run with seed 0, scored on GSM8K's 1,319 test items. Item error alone: what another seed would do is in none of them.
"""

from __future__ import annotations

import sys

from tabulate import tabulate

from peftbench.stats.estimate import ALPHA
from peftbench.tables.literature import TEST_ITEMS, p_of_two, published_rows, rank_ranges, wilson_half_width

ITEMS = TEST_ITEMS["gsm8k"]


def main() -> None:
    rows = published_rows(sys.argv[1] if len(sys.argv) > 1 else "peft-metamathqa")
    shares = {row.method: row.value / 100 for row in rows if row.value is not None}
    ranks = rank_ranges(shares, ITEMS)
    body = []
    for place, rank in enumerate(ranks, start=1):
        half = wilson_half_width(rank.share, ITEMS)
        body.append(
            [
                place,
                rank.method,
                f"{rank.share:.1%} ±{half * 100:.1f}".replace("%", ""),
                f"{rank.best} to {rank.worst}",
            ]
        )
    print(
        tabulate(
            body,
            ["printed rank", "experiment", "accuracy %", "rank that the items leave open"],
            tablefmt="github",
            disable_numparse=True,
        )
    )
    wide = sorted(rank.worst - rank.best for rank in ranks)
    fixed = [rank.method for rank in ranks if rank.best == rank.worst]
    leaders = [rank.method for rank in ranks if rank.best == 1]
    print(
        f"\n{len(fixed)} of {len(ranks)} ranks are fixed: {', '.join(fixed) or 'none'}; the median range is {wide[len(wide) // 2] + 1} places."
    )
    print(f"{len(leaders)} may be first: {', '.join(leaders)}.")
    first = ranks[0]
    for said, limit in (
        ("one test, not corrected", ALPHA),
        ("one-sided, times the 62 others", 2 * ALPHA / (len(ranks) - 1)),
    ):
        near = [r.method for r in ranks[1:] if p_of_two(first.share, r.share, ITEMS) > limit]
        print(f"Not told from the first ({said}): {len(near)}, down to {near[-1]}.")
    pairs = len(ranks) * (len(ranks) - 1) // 2
    told = sum(rank.best - 1 for rank in ranks)
    print(f"{told:,} of {pairs:,} pairs are told apart at 5 % over all of them (Holm); of the 20 printed first, "
          f"{sum(r.best - 1 for r in rank_ranges(dict(list(shares.items())[:20]), ITEMS))} of 190 when they are tested alone.")  # fmt: skip


if __name__ == "__main__":
    main()
