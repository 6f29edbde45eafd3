"""The footnotes of a table on its seeds: what they can decide, and which of them learned nothing."""

from __future__ import annotations

from ..stats.estimate import Estimate
from ..stats.power import MOST_SEEDS, seeds_for, smallest_difference
from .table import MARGIN, Row, Table


def decided_by(table: Table) -> list[str]:
    """Which differences its seeds can show among so many, and what the margin would need."""
    seen = [row.difference for row in table.rows if row.difference and row.p_holm is not None]
    least = smallest_difference(seen, table.alpha)
    if not least:
        return []
    alpha, shown = table.alpha / len(seen), f"{least * 100:.1f} points" if table.is_share else f"{least:.3g}"
    typical = sorted(seen, key=lambda one: one.half_width(alpha) or 0.0)[len(seen) // 2]
    among = "the one difference" if len(seen) == 1 else f"a difference among these {len(seen)}"
    said = f"With {typical.seeds} seeds {among} is significant (p below .05) from about {shown} on"
    if table.is_share:
        needed = seeds_for(typical, MARGIN, alpha)
        said += f"; {MARGIN * 100:g} point would need " + (
            f"about {needed} seeds"
            if needed is not None
            else f"more than {MOST_SEEDS} seeds, or more test items"
        )
    return [f"{said}, if seeds and items vary as they do here."]


def failed_seeds(table: Table) -> list[str]:
    """A line for each row that has any, and one of what follows."""
    rows = [row for row in table.rows if row.failed_seeds]
    if not rows:
        return []
    notes = [_failed(row, table) for row in rows]
    notes.append(
        "A failed seed ran to its end and learned nothing. An interval over so few seeds can't tell how often this happens, so such a "
        "row has no p and no mark. If the reference has failed seeds, no row has a p."
    )
    return notes


def _failed(row: Row, table: Table) -> str:
    seeds = "; ".join(f"seed {seed}: {why}" for seed, why in sorted(row.failed_seeds.items()))
    said = f"**{row.label}**: {len(row.failed_seeds)} of {row.seeds_good} seeds failed ({seeds})"
    if row.score is None or row.score_of_learned is None:
        return f"{said}."
    return f"{said}: {_shown(row.score, table)} over all, {_shown(row.score_of_learned, table)} over those that learned."


def _shown(score: Estimate, table: Table) -> str:
    return f"{score.value * 100:.1f}" if table.is_share else f"{score.value:.3g}"
