"""What `peftbench analyze` prints."""

from __future__ import annotations

from typing import Any

from .columns import MISSING, Cell
from .markdown import pipe_table

MOVED = 5.0  # |A - A0| / |A0| from which on A's directions are training's, not mostly its initialisation's


def analysis_text(found: dict[str, Any]) -> str:
    """Markdown: a row an update, then a row a pair."""
    return (
        "\n\n".join([_updates(found["updates"]), *([_pairs(found["pairs"])] if found["pairs"] else [])])
        + "\n"
    )


UPDATE_COLUMNS = {
    "matrix": "name",
    "rank": "rank",
    "90 % in": "effective_rank",
    "dW norm": "update_norm",
    "W norm": "weight_norm",
    "W on dW": "weight_on_update",
    "W on W": "weight_on_weight",
    "W on random": "weight_on_chance",
    "amplification": "amplification",
    "A moved": "moved",
}
GRIDS = ("phi_of_a", "chance_of_a", "phi_of_product", "chance_of_product")


def _updates(updates: list[dict[str, Any]]) -> str:
    body = [[_cell(one[name]) for name in UPDATE_COLUMNS.values()] for one in updates]
    notes = [
        "90 % in: directions that hold 90 % of the update's squared norm. W on dW: norm of W projected onto the update's singular",
        "directions, on W's own top ones, and on random ones (expected); amplification: dW norm over W on dW (Hu et al. 2021, table 7).",
        "A moved: norm of A's change over A's norm at the start.",
    ]
    still = [one["name"] for one in updates if one["moved"] is not None and one["moved"] < MOVED]
    if still:
        notes.append(
            f"In {len(still)} of {len(updates)} A moved less than {MOVED:g} times its start: there A's directions are partly those of its "
            "initialisation, which two runs of one seed share anyway."
        )
    return pipe_table(list(UPDATE_COLUMNS), body) + "\n\n" + "\n".join(notes)


def _pairs(pairs: list[dict[str, Any]]) -> str:
    headers = [
        "matrix",
        "ranks",
        "phi(1,1) of A",
        "random",
        "of BA",
        "random",
        "phi whole, of A",
        "random",
        "of BA",
        "random",
    ]
    body = [
        [
            Cell(pair["name"]),
            Cell("{}, {}".format(*pair["ranks"])),
            *(_cell(pair[grid][end][end] if pair[grid] else None) for end in (0, -1) for grid in GRIDS),
        ]
        for pair in pairs
    ]
    note = "phi: share of the smaller span that lies in the larger (equation 4); random: its mean for random spans. All values: --format json."
    return pipe_table(headers, body) + "\n\n" + note


def _cell(value: str | float | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    return Cell(f"{value:.3g}" if isinstance(value, float) else str(value))
