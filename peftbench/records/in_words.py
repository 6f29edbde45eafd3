"""A figure of quality as people say it."""

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
