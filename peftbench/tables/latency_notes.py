"""What a reader must know of the slow-downs in a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .costs import PRECISION
from .notes import Explains

if TYPE_CHECKING:
    from .table import Row

BUSY_SHARE = 0.10  # of the processor's time taken by others: from here on step times are not this run's alone


def latency_notes(rows: Sequence[Row], weights: str) -> list[str]:
    """Over what, in how many processes, how sure, and beside what; what was not timed and why; empty where nothing was asked for.

    Args:
        weights: data type of the base, in which passes are timed.
    """
    cells = [cell for row in rows for cell in row.costs.latency]
    base: dict[str, list[float]] = {}
    for cell in cells:
        if cell.base_ms is not None:
            base.setdefault(f"{cell.batch}x{cell.length}", []).append(cell.base_ms)
    refused = dict.fromkeys(f"{c.batch}x{c.length} was not timed: {c.refusal}." for c in cells if c.refusal)
    if not base:
        return list(refused)
    figures = ", ".join(f"{statistics.median(ms):.1f} ms at {name}" for name, ms in base.items())
    counts = sorted({one.processes for cell in cells for one in (cell.unmerged, cell.noise) if one}) or [0]
    processes = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    said = (
        f"Slow-down: one forward pass of batch x length tokens against the base model's ({figures}), {weights}, median over "
        f"interleaved rounds, mean over {processes} fresh processes with its 95 % interval; ≈: shown to be none."
    )
    notes: list[str] = [Explains(said), *refused]
    if same := [row.label for row in rows if row.costs.graph_is_base and not row.costs.latency]:
        notes.append(
            Explains(
                f"Not timed, because their forward pass is that of the base with other weights: {', '.join(same)}."
            )
        )
    floor = [cell.noise for cell in cells if cell.noise]
    if floor:
        low, high = min(n.value for n in floor), max(n.value for n in floor)
        widest = max(n.half_width() for n in floor)
        notes.append(
            Explains(
                f"Noise floor: a copy of the base against the base shows {low:+.1%} to {high:+.1%} (intervals up to ±{widest:.1%})."
            )
        )
    if undecided := _undecided(rows):
        notes.append(
            f"Slow-down still undecided when its time was up (half-width above {PRECISION:.0%}, and neither shown to be none nor to be real): "
            f"{undecided}; a larger --latency-budget measures longer."
        )
    busy = [row.label for row in rows if (row.costs.latency_others_cpu_share or 0.0) > BUSY_SHARE]
    if busy:
        notes.append(
            f"Other processes took more than {BUSY_SHARE:.0%} of the processor while latency was measured: {', '.join(busy)}."
        )
    held = sorted({f"{row.label} ({reason})" for row in rows for reason in row.costs.throttled})
    if held:
        notes.append(f"The GPU's clock was throttled while these were measured: {', '.join(held)}.")
    return notes


def _undecided(rows: Sequence[Row]) -> str:
    """The slow-downs whose interval is too wide to tell, by row."""
    wide = {
        row.label: [f"{cell.batch}x{cell.length}" for cell in row.costs.latency if not cell.is_decided]
        for row in rows
    }
    return "; ".join(f"{label} at {', '.join(cells)}" for label, cells in wide.items() if cells)
