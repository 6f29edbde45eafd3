"""What `peftbench list` and `peftbench show` say."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .. import defaults
from ..comparison import suite_file
from ..errors import unknown
from ..plugins import loader, registry
from ..records.store import Store, Stored

LISTED = ("methods", "tasks", "models", "reports", "suites", "runs")


def listing(what: str, store: Path, plugins: Sequence[str]) -> list[dict[str, Any]]:
    """One dictionary a line.

    Raises:
        UsageError: there is no such thing to list.
    """
    if what not in LISTED:
        raise unknown("thing to list", what, LISTED, "peftbench list " + "|".join(LISTED))
    loader.load_plugins(Path(p) for p in plugins)
    if what == "runs":
        return [_run(stored) for stored in Store(store).all()]
    if what == "suites":
        return [
            {"name": name, "summary": suite_file.summary(file), "file": str(file)}
            for name, file in suite_file.built_in().items()
        ]
    if what == "models":
        return [
            *_starters(),
            {"name": "a folder or a hub id", "where": "saved by save_pretrained, or the hub's name"},
        ]
    kind = what.removesuffix("s")
    entries = [_entry(entry) for _, entry in sorted(registry.load(kind).items())]
    return [*entries, *_groups()] if what == "tasks" else entries


def as_text(rows: Sequence[dict[str, Any]], width: int | None) -> str:
    """A table, or where it is wider than `width` characters a few lines for each of its rows."""
    table = tabulate(rows, headers="keys", tablefmt="plain")
    if width is None or max(map(len, table.splitlines())) <= width:
        return f"{table}\n"
    lines: list[str] = []
    for row in rows:
        (_, name), *others = row.items()
        first = f"{name}  {row['summary']}" if row.get("summary") else str(name)
        rest = [f"{key} {value}" for key, value in others if key != "summary" and value not in ("", None)]
        lines += textwrap.wrap(first, width, subsequent_indent="    ")
        lines += textwrap.wrap("; ".join(rest), width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def _entry(entry: registry.Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name}
    if dataclasses.is_dataclass(entry.target):
        row["fields"] = " ".join(
            f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}"
            for f in dataclasses.fields(entry.target)
            if f.init
        )
    if entry.kind == "method":
        row["claims"] = " ".join(
            name for name, claimed in dataclasses.asdict(entry.declared.claims).items() if claimed
        )
        row["lr"] = entry.declared.preset.learning_rate
    row["summary"] = entry.summary
    return row


def _groups() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "fields": "",
            "summary": f"Several tasks: {', '.join(tasks)}; each model gets those that it can do.",
        }
        for name, tasks in defaults.SUITES.items()
    ]


def _starters() -> list[dict[str, Any]]:
    from ..models.starters import STARTERS, WHEELS

    return [
        {
            "name": name,
            "where": f"{WHEELS[name].package} {WHEELS[name].version}, {WHEELS[name].wheel_bytes / 1e6:.0f} MB once"
            if name in WHEELS
            else "made here, no download",
        }
        for name in STARTERS
    ]


def _run(stored: Stored) -> dict[str, Any]:
    record = stored.record
    run, metric = record.run, record.metric
    score = None if metric is None or record.quality is None else record.quality.get(metric["name"])
    return {
        "key": record.key[:12],
        "kind": run.kind,
        "method": run.method,
        "model": run.model,
        "task": run.task,
        "seed": run.seed,
        "status": record.status,
        "score": score,
        "started": record.started_at,
    }


def show(stored: Stored) -> str:
    """The record, with its long lists cut to their ends, and the tail of its log."""
    data = json.loads(stored.record.to_text())
    text = json.dumps(_shorten(data), indent=1, ensure_ascii=False)
    log = stored.folder / "log.txt"
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:] if log.is_file() else []
    files = ", ".join(sorted(f"{f.name} ({f.stat().st_size:,} bytes)" for f in stored.folder.iterdir()))
    return "\n".join(
        [text, f"folder: {stored.folder}", f"files: {files}", *(["log:"] if tail else []), *tail]
    )


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > 6:
        return [*value[:3], f"... {len(value) - 6} more ...", *value[-3:]]
    return value
