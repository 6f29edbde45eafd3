"""What `peftbench analyze` finds: of each update its size, its spectrum and its relation to the weights; of two, what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, unknown
from .projection import amplification, chance_projected_norm, own_projected_norm, projected_norm
from .subspace import Floats, chance, product_svd, right_directions, similarity
from .updates import Update, is_checkpoint, updates_at

ENERGY = 0.90  # of an update's squared norm: its effective rank is how many directions hold it


def analyze(one: Path, other: Path | None, only: str | None, plugins: tuple[str, ...]) -> dict[str, Any]:
    """Plain values for JSON: `updates`, and `pairs` where there is another one to compare with.

    Args:
        one: a stored run's folder or a checkpoint's.
        only: a part of the names, or a role, that is looked at alone.

    Raises:
        UsageError: one of the two holds no low-rank updates, or they share no matrix.
    """
    split = other is None or not (is_checkpoint(one) or is_checkpoint(other))
    updates = _wanted(updates_at(one, plugins, split), only)
    found: dict[str, Any] = {"updates": [_facts(update) for update in updates], "pairs": []}
    if other is not None:
        others = {update.name: update for update in _wanted(updates_at(other, plugins, split), only)}
        shared = [u for u in updates if u.name in others and u.a.shape[1] == others[u.name].a.shape[1]]
        if not shared:
            raise UsageError(
                f"{str(one)!r} and {str(other)!r} adapt no matrix in common: {updates[0].name}, ... and {next(iter(others))}, ..."
            )
        found["pairs"] = [_pair(update, others[update.name]) for update in shared]
    return found


def _wanted(updates: list[Update], only: str | None) -> list[Update]:
    if only is None:
        return updates
    chosen = [update for update in updates if update.role == only or only in update.name]
    if not chosen:
        known = [update.role or update.name for update in updates]
        raise unknown("matrix or role", only, dict.fromkeys(known), "a role, or a part of a module's name")
    return chosen


def _facts(update: Update) -> dict[str, Any]:
    u, values, v = product_svd(update.b, update.a)
    squares = values**2
    total = float(squares.sum())
    held = np.cumsum(squares) / total if total else squares
    facts: dict[str, Any] = {
        "name": update.name,
        "role": update.role,
        "layer": update.layer,
        "rank": len(update.a),
        "shape": [len(update.b), update.a.shape[1]],
        "singular_values": values.tolist(),
        "update_norm": total**0.5,
        "effective_rank": int(np.argmax(held >= ENERGY)) + 1 if total else 0,
        "moved": None,
        "weight_norm": None,
        "weight_on_update": None,
        "weight_on_weight": None,
        "weight_on_chance": None,
        "amplification": None,
    }
    rows = update.trained_rows
    if update.start is not None and (begun := float(np.linalg.norm(update.start[rows]))):
        facts["moved"] = float(np.linalg.norm((update.a - update.start)[rows])) / begun
    if update.weight is not None and total:
        norm = float(np.linalg.norm(update.weight))
        on_update = projected_norm(update.weight, u, v)
        facts |= {
            "weight_norm": norm,
            "weight_on_update": on_update,
            "weight_on_weight": own_projected_norm(update.weight, len(values)),
            "weight_on_chance": chance_projected_norm(norm, update.weight.shape, len(values)),
            "amplification": amplification(total**0.5, on_update) if on_update else None,
        }
    return facts


def _pair(one: Update, other: Update) -> dict[str, Any]:
    width = one.a.shape[1]
    of_a = similarity(*(right_directions(update.a[update.trained_rows]) for update in (one, other)))
    of_product = similarity(*(product_svd(update.b, update.a)[2] for update in (one, other)))
    return {
        "name": one.name,
        "ranks": [len(one.a), len(other.a)],
        "width": width,
        "phi_of_a": _rounded(of_a),
        "chance_of_a": _rounded(chance(of_a.shape, width)),
        "phi_of_product": _rounded(of_product),
        "chance_of_product": _rounded(chance(of_product.shape, width)),
    }


def _rounded(grid: Floats) -> list[list[float]]:
    """Empty where one of the two has no direction."""
    return [[round(float(value), 6) for value in line] for line in grid] if grid.size else []
