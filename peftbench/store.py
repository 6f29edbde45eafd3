"""The store: `STORE/<key>/<attempt>/` with a record and its files, written aside and renamed into place.

There are no locks: a rename either takes its place or finds it taken, and then another program was first. The newest
valid attempt counts. What can't be read is reported by name and skipped, never half-read.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from .errors import PeftbenchError, UsageError
from .progress import notify
from .record import Record

RECORD = "record.json"


@dataclass(frozen=True)
class Stored:
    """A record and the folder that it was read from."""

    record: Record
    folder: Path


class Store:
    """A folder of records.

    Raises:
        UsageError: the path is a file, or the folder can't be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"the store {str(root)!r} is a file; give a folder with --store")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder aside for a run's files; gone afterwards unless `put` moved it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for left in self.root.glob(".run-*"):
                if not psutil.pid_exists(int(left.name.split("-")[1])):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f".run-{os.getpid()}-", dir=self.root))
        except OSError as error:
            raise UsageError(f"the store {str(self.root)!r} can't be written: {error.strerror}") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, record: Record, staging: Path) -> Path:
        """Write the record into `staging` and move that to its place; returns where it is."""
        file = staging / RECORD
        with file.open("w", encoding="utf-8") as sink:
            sink.write(record.to_text())
            sink.flush()
            os.fsync(sink.fileno())
        home = self.root / record.key
        home.mkdir(exist_ok=True)
        for attempt in itertools.count(len(list(home.iterdir())) + 1):
            place = home / f"{attempt:04d}"
            try:
                staging.rename(place)
                return place
            except OSError:
                if not place.exists():
                    raise
                if (
                    self.get(record.key) is not None and record.status != "failed"
                ):  # another program was first
                    return place
        raise AssertionError("unreachable")

    def get(self, key: str) -> Stored | None:
        """The newest valid attempt of a key, a good one before a failed one."""
        found: Stored | None = None
        for folder in sorted((self.root / key).glob("[0-9]*")):
            stored = _read(folder)
            if stored and (found is None or stored.record.status == "ok" or found.record.status != "ok"):
                found = stored
        return found

    def all(self) -> list[Stored]:
        """The newest valid attempt of every key, oldest first."""
        if not self.root.is_dir():
            raise UsageError(
                f"there is no store at {str(self.root)!r}; `peftbench run` makes one, --store names another"
            )
        keys = sorted(
            path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        found = [stored for key in keys if (stored := self.get(key)) is not None]
        return sorted(found, key=lambda stored: stored.record.started_at)

    def find(self, start: str) -> Stored:
        """The one run whose key begins with `start`.

        Raises:
            UsageError: none or several do.
        """
        found = [stored for stored in self.all() if stored.record.key.startswith(start)]
        if len(found) != 1:
            said = "no run's key begins" if not found else f"{len(found)} runs' keys begin"
            raise UsageError(f"{said} with {start!r} in {str(self.root)!r}; see `peftbench list runs`")
        return found[0]


def _read(folder: Path) -> Stored | None:
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        return Stored(Record.from_file(file), folder)
    except (PeftbenchError, OSError, UnicodeDecodeError) as error:
        notify(f"skipped {file}: {error}")
        return None
