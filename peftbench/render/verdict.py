"""What `peftbench verify` prints."""

from __future__ import annotations

from typing import Any

from ..records.record import NOT_REPRODUCED


def verdict_text(verdict: dict[str, Any], metric_is_share: bool) -> str:
    """What is printed.

    Args:
        verdict: a `Verdict` as a dictionary.
    """
    times = 100 if metric_is_share and verdict["metric"] != "nll" else 1
    then, now = verdict["then"] * times, verdict["now"] * times
    half = "" if verdict["half_width"] is None else f" ±{verdict['half_width'] * times:.3g} over items"
    outcome = ("" if verdict["outcome"] == NOT_REPRODUCED else "reproduced ") + verdict["outcome"]
    said = (
        f"{outcome}: {verdict['metric']} {then:.6g}{half} then, {now:.6g} now; {verdict['changed_items']:,} of "
        f"{verdict['items']:,} predictions differ"
    )
    lines = [said]
    lines += [f"differs: {what}" for what in verdict["differs"]] or ["nothing else differs"]
    return "\n".join(lines) + "\n"
