"""What a person sees while a comparison runs: a progress bar on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Self, cast

from ..data.download import size_of
from ..engine.protocol import Event
from ..printable import printable
from ..progress import notify, reported_to
from ..records.in_words import quality_in_words
from ..records.record import Record
from ..records.runs import Planned, Run
from ..records.store import Stored
from .time_left import TimeLeft

LOADING = "loading libraries"


class Display:
    """Follows a comparison from its plan to its last record."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.total = 0
        self.cells: set[tuple[str, str, int | None]] = set()
        self.number = 0
        self.left = TimeLeft()
        self.begun: set[str] = set()  # keys of runs that were not in the store
        self.now: dict[int, str] = {}  # by job
        self.bar: Any = None
        self.whole: Any = None
        self.part: Any = None
        self.listening = contextlib.ExitStack()

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
            self.whole = self.bar.add_task(LOADING, total=None)
            self.listening.enter_context(reported_to(self._hear))  # what a plan says comes above the bar
        return self

    def __exit__(self, *failure: object) -> None:
        self.listening.close()
        if self.bar is not None:
            self.bar.stop()

    def planned(self, planned: list[Planned]) -> None:
        self.total += len(planned)
        self.cells |= {item.run.cell for item in planned}
        self.left.planned(item.run.kind for item in planned)
        if self.bar is not None:
            self.bar.update(self.whole, description="runs", total=self.total)
            if self.part is None:
                self.part = self.bar.add_task("", total=None)
        kinds = {"tuning": "learning-rate trials", "latency": "latency processes"}
        self.say(f"{len(planned)} {kinds.get(planned[0].run.kind, 'runs') if planned else 'runs'} planned")

    def event(self, event: Event) -> None:
        """A worker's event."""
        if "notice" in event:
            self.say(event["notice"])
        if "started" in event:
            self.begun.add(Run.from_json(event["started"]).key)
            self.left.began()
        if self.bar is None:
            return
        if "download" in event:
            self._download(event)
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

    def _hear(self, said: dict[str, Any]) -> None:
        """What this process says itself."""
        self.event(cast(Event, said))

    def _download(self, event: Event) -> None:
        """How far a download is, in the place of what the program waits for."""
        done, total = event["done_bytes"], event["of_bytes"]
        if done < total:
            said = f"{event['download']}, {size_of(done)} of {size_of(total)}"
            self.bar.update(self.whole, description=printable(said), completed=100 * done // total, total=100)
        else:
            self.bar.update(self.whole, description=LOADING, completed=0, total=None)

    def done(self, item: Planned, stored: Stored) -> None:
        self.number += 1
        is_new = item.run.key in self.begun
        self.left.done(item.run.kind, stored.record.wall_s if is_new else None)
        left = self.left.said()
        if self.bar is not None:
            self.bar.update(
                self.whole, completed=self.number, description=f"runs, {left}" if left else "runs"
            )
        beside = f"; {left}" if left and is_new and self.bar is None else ""
        self.say(f"[{self.number}/{self.total}] {self._title(item.run)}: {_outcome(stored.record)}{beside}")

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
        return f"{run.method} costs, run {run.seed + 1}"
    if run.kind == "tuning":
        return f"{run.method} at {run.learning_rate:g}, trial seed {run.seed}"
    return f"{run.method} seed {run.seed}"


def _outcome(record: Record) -> str:
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    wall = f"{record.wall_s:.0f} s" if record.wall_s is not None else ""
    if record.quality is None or record.metric is None:
        return wall
    return f"{quality_in_words(record.metric, record.quality)}, {wall}"
