"""What a person sees while a comparison runs: a progress bar on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import sys
from typing import Any, Self

from ..engine.protocol import Event
from ..printable import printable
from ..progress import notify
from ..records.record import Record
from ..records.runs import Planned, Run
from ..records.store import Stored


class Display:
    """Follows a comparison from its plan to its last record."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.total = 0
        self.cells: set[tuple[str, str, int | None]] = set()
        self.number = 0
        self.fresh = 0
        self.now: dict[int, str] = {}  # by job
        self.bar: Any = None
        self.whole: Any = None
        self.part: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            self.whole = self.bar.add_task("loading libraries", total=None)
        return self

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def planned(self, planned: list[Planned]) -> None:
        self.total += len(planned)
        self.cells |= {item.run.cell for item in planned}
        if self.bar is not None:
            self.bar.update(self.whole, description="runs", total=self.total)
            if self.part is None:
                self.part = self.bar.add_task("", total=None)
        kinds = {"tuning": "trials of learning rates"}
        self.say(f"{len(planned)} {kinds.get(planned[0].run.kind, 'runs') if planned else 'runs'} planned")

    def event(self, event: Event) -> None:
        """A worker's event."""
        if "notice" in event:
            self.say(event["notice"])
        if self.bar is None:
            return
        if "started" in event:
            self.now[event["job"]] = self._title(Run.from_json(event["started"]))
        if "exit" in event:
            self.now.pop(event["job"], None)
        if "phase" in event:
            title = self.now.get(event["job"], "")
            self.bar.update(
                self.part, description=printable(f"{title}: {event['phase']}"), completed=0, total=None
            )
        if "step" in event:
            self.bar.update(self.part, completed=event["step"], total=event["of"])

    def done(self, item: Planned, stored: Stored) -> None:
        self.number += 1
        if self.bar is not None:
            self.bar.update(self.whole, completed=self.number)
        self.say(f"[{self.number}/{self.total}] {self._title(item.run)}: {_outcome(stored.record)}")

    def _title(self, run: Run) -> str:
        """What a run is, with its model, task and training items where there are several of them."""
        size = run.budget.train_items
        parts = (run.model, run.task, "all training items" if size is None else f"{size:,} training items")
        several = [len({cell[place] for cell in self.cells}) > 1 for place in range(len(parts))]
        where = [part for part, said in zip(parts, several, strict=True) if said]
        return ", ".join([_what(run), *where])

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(printable(text), markup=False, highlight=False)
        else:
            notify(text)


def _what(run: Run) -> str:
    if run.kind == "latency":
        return f"{run.method} latency, process {run.seed + 1}"
    if run.kind == "profile":
        return f"{run.method} inside a step"
    if run.kind == "tuning":
        return f"{run.method} at {run.learning_rate:g}, trial seed {run.seed}"
    return f"{run.method} seed {run.seed}"


def _outcome(record: Record) -> str:
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    wall = f"{record.wall_s:.0f} s" if record.wall_s is not None else ""
    if record.quality is None or record.metric is None:
        return wall
    name, share = record.metric["name"], record.metric["is_share"]
    if (value := record.quality.get(name)) is None:  # a trial of a task whose metric is dear
        return f"nll {record.quality['nll']:.3f}, {wall}"
    return (
        f"{name} {value * 100:.1f} {record.metric['unit']}, {wall}"
        if share
        else f"{name} {value:.3f}, {wall}"
    )
