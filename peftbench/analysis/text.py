"""The program's side of `peftbench analyze`: which places can be analyzed, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..columns import MISSING, Cell
from ..errors import UsageError
from ..markdown_text import pipe_table
from ..store import Store

MOVED = 5.0  # |A - A0| / |A0| from which on A's directions are training's, not mostly its initialisation's


def folder_of(asked: str, store: Path) -> Path:
    """The folder of a checkpoint, or of the run whose key begins so.

    Raises:
        UsageError: there is neither, or the run kept no weights.
    """
    path = Path(asked).expanduser()
    if path.is_dir():
        if not any((path / name).is_file() for name in ("adapter_config.json", "record.json")):
            raise UsageError(
                f"{asked!r} holds neither adapter_config.json nor record.json; name a run or a checkpoint's folder"
            )
        return path.resolve()
    stored = Store(store).find(asked)
    if not (stored.folder / "adapter.safetensors").is_file():
        raise UsageError(
            f"run {stored.record.key[:12]} ({stored.record.run.method}, {stored.record.run.kind}) kept no weights; analyze a "
            "training run of a low-rank method"
        )
    return stored.folder.resolve()


def text_of(found: dict[str, Any]) -> str:
    """Markdown: a row an update, then a row a pair."""
    return (
        "\n\n".join([_updates(found["updates"]), *([_pairs(found["pairs"])] if found["pairs"] else [])])
        + "\n"
    )


def _updates(updates: list[dict[str, Any]]) -> str:
    headers = [
        "matrix",
        "rank",
        "90 % in",
        "dW norm",
        "W norm",
        "W on dW",
        "W on W",
        "W on random",
        "amplification",
        "A moved",
    ]
    names = [
        "update_norm",
        "weight_norm",
        "weight_on_update",
        "weight_on_weight",
        "weight_on_chance",
        "amplification",
        "moved",
    ]
    body = [
        [
            Cell(one["name"]),
            Cell(str(one["rank"])),
            Cell(str(one["effective_rank"])),
            *(_number(one[name]) for name in names),
        ]
        for one in updates
    ]
    notes = [
        "90 % in: directions that hold 90 % of the update's squared norm. W on dW: norm of W projected onto the update's singular",
        "directions, on W's own top ones, and on random ones (expected); amplification: dW norm over W on dW (Hu et al. 2021, table 7).",
        "A moved: norm of A's change over A's norm at the start.",
    ]
    still = [one["name"] for one in updates if one["moved"] is not None and one["moved"] < MOVED]
    if still:
        notes.append(
            f"In {len(still)} of {len(updates)} A moved less than {MOVED:g} times its start: there A's directions are in part those it was "
            "drawn with, and what two runs of one seed share is no news."
        )
    return pipe_table(headers, body) + "\n\n" + "\n".join(notes)


def _pairs(pairs: list[dict[str, Any]]) -> str:
    headers = [
        "matrix",
        "ranks",
        "phi(1,1) of A",
        "of BA",
        "random",
        "phi(i,j) whole, of A",
        "of BA ",
        "random ",
    ]
    body = []
    for pair in pairs:
        grids = [pair[name] for name in ("phi_of_a", "phi_of_product", "chance")]
        body.append(
            [
                Cell(pair["name"]),
                Cell("{}, {}".format(*pair["ranks"])),
                *(_number(g[0][0]) for g in grids),
                *(_number(g[-1][-1]) for g in grids),
            ]
        )
    note = "phi: share of the smaller span that lies in the larger (equation 4); random: its mean for random spans. All values: --format json."
    return pipe_table(headers, body) + "\n\n" + note


def _number(value: float | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:.3g}")
