"""The program's side of `peftbench verify`: which runs can be verified, and what is printed of the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import UsageError
from .record import Record
from .store import Store

NOT_REPRODUCED = "not reproduced"


def job_of(
    store: Path, run: str, plugins: tuple[str, ...], data_dir: str | None
) -> tuple[dict[str, Any], Record]:
    """What the worker is asked, and the stored record.

    Raises:
        UsageError: there is no such run, or it can't be verified.
    """
    stored = Store(store).find(run)
    check(stored.record)
    job = {
        "job": "verify",
        "folder": str(stored.folder.resolve()),
        "plugins": plugins,
        "data_dir": data_dir or stored.record.run.data_dir,
        "threads": stored.record.environment.get("threads"),
    }
    return job, stored.record


def check(record: Record) -> None:
    """Whether a record can be verified.

    Raises:
        UsageError: it is no finished run with predictions.
    """
    if record.run.kind not in ("training", "tuning"):
        raise UsageError(
            f"a {record.run.kind} run measures costs, which no two runs have alike; verify a training run"
        )
    if record.status != "ok":
        raise UsageError(f"this run {record.status}: {record.reason}; there is nothing to compare with")


def text_of(verdict: dict[str, Any], metric_is_share: bool) -> str:
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
