"""Figures as people say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def quality_in_words(metric: Mapping[str, Any], quality: Mapping[str, Any]) -> str:
    """The primary metric, or the loss where that one is dear and was left out, as of a trial.

    Args:
        metric: its facts, as a record holds them.
    """
    value = quality.get(metric["name"])
    if value is None:
        return f"nll {quality['nll']:.3f}"
    if metric["is_share"]:
        return f"{metric['name']} {value * 100:.1f} {metric['unit']}"
    return f"{metric['name']} {value:.3f}"


def span_in_words(seconds: float) -> str:
    """As "20 s", "40 min" or "2.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
