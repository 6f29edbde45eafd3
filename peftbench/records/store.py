"""The store: `STORE/<key>/<attempt>/` with a record and its files, written aside and renamed into place.

There are no locks: a rename either takes its place or finds it taken, and then another program was first. The newest
valid attempt counts. The record holds the size and hash of every file beside it, and all of them reach the disk before
the rename does: what was cut short, by a crash, a power loss or a full disk, is reported by name and skipped, never
half-read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..errors import PeftbenchError, UsageError
from ..folders import drawn_folder, expanded, share
from ..parallel import parallel_map
from ..progress import notify
from .record import Record

RECORD, WEIGHTS, CHECKPOINTS = "record.json", ".safetensors", ".checkpoints"
QUICK_BYTES = 1_000_000  # weights up to this size are hashed again wherever a run looks for what is done
ALL_BYTES = 2**63  # all are: they are used, or copied
AT_ONCE = 250  # records whose files a process looks at before it says so
FILES_AT_ONCE = 8  # that are waited for until they are on the disk


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
        self.root, self._is_cleared = expanded(root, "--store"), False
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"the store {str(root)!r} is a file; give a folder with --store")
        if self.root.is_symlink() and not self.root.exists():
            raise UsageError(
                f"the store {str(root)!r} is a link to {os.readlink(self.root)!r}, which is not there"
            )

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder aside for a run's files; gone afterwards unless `put` moved it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self._is_cleared:  # once: of ten thousand runs none should look at ten thousand names
                self._is_cleared = True
                self._clear()
            prefix = f".run-{_host()}-{os.getpid()}-"
            folder = drawn_folder(self.root, prefix)
        except OSError as error:
            raise self.unwritable_for(error) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _clear(self) -> None:
        """Take away what programs that died left; those of other machines are not ours to judge."""
        for left in self.root.glob(f".run-{_host()}-*"):
            owner = left.name.removeprefix(f".run-{_host()}-").split("-")[0]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(left, ignore_errors=True)

    def put(self, record: Record, staging: Path) -> Stored:
        """Write the record into `staging` and move that to its place; returns the record as it is there.

        Raises:
            UsageError: the disk is full, or the store can't be written. What it holds is as it was.
        """
        try:
            for left in staging.iterdir():
                if (
                    left.is_dir()
                ):  # of a process of the run, whose launcher was killed and could not take it away
                    shutil.rmtree(left, ignore_errors=True)
            share(staging)
            record = dataclasses.replace(record, files=_files(staging))
            with (staging / RECORD).open("w", encoding="utf-8") as sink:
                sink.write(record.to_text())
            _to_disk(*staging.iterdir(), staging)
            home = self.root / record.key
            home.mkdir(exist_ok=True)
            return self._move(record, staging, home)
        except OSError as error:
            raise self.unwritable_for(error) from error

    def _move(self, record: Record, staging: Path, home: Path) -> Stored:
        taken = (int(folder.name) for folder in home.iterdir() if folder.name.isdecimal())
        for attempt in itertools.count(max(taken, default=0) + 1):
            place = home / f"{attempt:04d}"
            try:
                staging.rename(place)
            except OSError:
                if not place.exists():
                    raise
                first = self.get(record.key)
                if first is not None and first.record.status == "ok":  # another program was first
                    return first
            else:
                _to_disk(home, self.root)
                return Stored(record, place)
        raise AssertionError("unreachable")

    def checkpoints_of(self, key: str) -> Path:
        """Where the training of a run keeps its state, as an absolute path; no part of the run's results."""
        return self.root.absolute() / CHECKPOINTS / key

    def forget_checkpoints(self, key: str) -> None:
        """Take them away; the run is done."""
        kept = self.checkpoints_of(key)
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(OSError):  # of other runs, or none was ever kept
            kept.parent.rmdir()

    def look_at(self, stored: Stored, rule: dict[str, Any]) -> Stored:
        """Note in a record that it was looked at under a rule for adding seeds, once.

        Raises:
            UsageError: the store can't be written.
        """
        if rule in stored.record.rules:
            return stored
        record = dataclasses.replace(stored.record, looks=[*(stored.record.looks or ()), rule])
        aside = stored.folder / f".{RECORD}-{_host()}-{os.getpid()}"
        try:
            aside.write_text(record.to_text(), encoding="utf-8")
            _to_disk(aside)
            aside.replace(stored.folder / RECORD)
            _to_disk(stored.folder)
        except OSError as error:
            raise self.unwritable_for(error) from error
        return Stored(record, stored.folder)

    def unwritable_for(self, error: OSError) -> UsageError:
        """Why it can't be written, as a line for the user."""
        said = error.strerror or str(error)
        return UsageError(
            f"the store {str(self.root)!r} can't be written: {said}; finished runs are kept, the same command carries on"
        )

    def get(self, key: str, weights_bytes: int = QUICK_BYTES) -> Stored | None:
        """The newest valid attempt of a key, a good one before a failed one.

        Args:
            weights_bytes: files of weights up to this size are read to see that they are what was written; of larger
                ones, the size is looked at.
        """
        return self._newest(key, lambda folder: _read(folder, weights_bytes))

    def _newest(self, key: str, read: Callable[[Path], Stored | None]) -> Stored | None:
        home = self.root / key
        try:
            names = os.listdir(home)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # of a colleague who keeps it to themselves, say
            notify(f"skipped {home}: {error.strerror}")
            return None
        found: Stored | None = None
        for name in sorted(name for name in names if name[0].isdecimal()):
            stored = read(home / name)
            if stored and (found is None or stored.record.status == "ok" or found.record.status != "ok"):
                found = stored
        return found

    def all(self) -> list[Stored]:
        """The newest valid attempt of every key, oldest first. Their weights are not read: no report does."""
        if not self.root.is_dir():
            raise UsageError(
                f"there is no store at {str(self.root)!r}; `peftbench run` makes one, --store names another"
            )
        with os.scandir(self.root) as entries:
            keys = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
        read = [stored for key in keys if (stored := self._newest(key, _record_in)) is not None]
        parts = [read[i : i + AT_ONCE] for i in range(0, len(read), AT_ONCE)]
        intact = parallel_map(lambda i: [_is_intact(stored) for stored in parts[i]], len(parts), len(read))
        good = [one for part in intact for one in part]
        found = [
            stored if is_good else self.get(stored.record.key, 0)  # says what is wrong
            for stored, is_good in zip(read, good, strict=True)
        ]
        return sorted(
            (stored for stored in found if stored is not None), key=lambda stored: stored.record.started_at
        )

    def find(self, start: str) -> Stored:
        """The one run whose key begins with `start`, or whose folder that is: of this store or another one.

        Raises:
            UsageError: none or several do.
        """
        if (key := _key_of_folder(Path(start))) is not None:
            return Store(key.parent).find(key.name)
        found = [stored for stored in self.all() if start and stored.record.key.startswith(start)]
        if len(found) != 1:
            said = "no run's key begins" if not found else f"{len(found)} runs' keys begin"
            raise UsageError(f"{said} with {start!r} in {str(self.root)!r}; see `peftbench list runs`")
        stored = self.get(found[0].record.key, ALL_BYTES)
        if stored is None:
            raise UsageError(
                f"the weights of run {start!r} in {str(self.root)!r} changed after they were written"
            )
        return stored


def _key_of_folder(path: Path) -> Path | None:
    """The folder of a run that a path to it, or to one of its results, names; None: it names no such folder."""
    if len(path.parts) < 2 or not os.path.isdir(path):
        return None
    return next((one for one in (path, path.parent) if re.fullmatch("[0-9a-f]{64}", one.name)), None)


def unwritable(error: BaseException) -> str | None:
    """What can't be written, where that is what an error says: a full disk, a quota, a read-only file system."""
    reason = reason_unwritable(error)
    place = getattr(error, "filename", None) or "the store or the cache"
    return None if reason is None else f"{place} can't be written: {reason}"


def reason_unwritable(error: BaseException) -> str | None:
    """Why nothing can be written, where that is what an error says."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    if isinstance(error, OSError) and error.errno in full:
        return os.strerror(error.errno)
    words = (os.strerror(number) for number in full)  # libraries that wrap the system's error
    return next((word for word in words if word in str(error)), None)


def _read(folder: Path, weights_bytes: int) -> Stored | None:
    """The record, if the files beside it are what was written."""
    stored = _record_in(folder)
    try:
        if stored is not None:
            _verify(stored.record, folder, weights_bytes)
    except (PeftbenchError, OSError) as error:
        notify(f"skipped {folder / RECORD}: {error}")
        return None
    return stored


def _record_in(folder: Path) -> Stored | None:
    """The record alone, the files beside it not looked at."""
    try:
        record = Record.from_file(folder / RECORD)
        if record.key != folder.parent.name:  # renamed, or a copy: no run would find it there
            raise PeftbenchError(f"it is of another run; its folder's name must be {record.key}")
        return Stored(record, folder)
    except (FileNotFoundError, NotADirectoryError):  # not one of ours, or being put in its place
        return None
    except (PeftbenchError, OSError, UnicodeDecodeError) as error:
        notify(f"skipped {folder / RECORD}: {error}")
        return None


def _is_intact(stored: Stored) -> bool:
    try:
        _verify(stored.record, stored.folder, 0)
    except (PeftbenchError, OSError):
        return False
    return True


def _verify(record: Record, folder: Path, weights_bytes: int) -> None:
    """Compare the files beside a record with what it says of them. Weights may have been deleted by their owner.

    Raises:
        PeftbenchError: one is missing, cut short or changed.
    """
    for name, known in record.files.items():
        file, is_weights = f"{folder}/{name}", name.endswith(WEIGHTS)
        try:
            found = os.stat(file).st_size
        except FileNotFoundError:
            if is_weights:
                continue
            raise PeftbenchError(f"its {name} is missing") from None
        if found != known["bytes"]:
            raise PeftbenchError(f"its {name} has {found} bytes, not {known['bytes']}")
        if (not is_weights or found <= weights_bytes) and _sha256(file) != known["sha256"]:
            raise PeftbenchError(f"its {name} changed after it was written")


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(folder.iterdir())
        if file.name != RECORD and not file.is_dir()
    }


def _sha256(file: str | Path) -> str:
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _to_disk(*paths: Path) -> None:
    """Wait until files, or folders' lists of names, are on the disk itself. All are waited for at once: a disk writes them together."""
    list(_writers(os.getpid()).map(_one_to_disk, paths))


@functools.cache
def _writers(process: int) -> ThreadPoolExecutor:
    """The threads of a process that wait for the disk: to start them for every run takes longer than to wait."""
    return ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="to-disk")


def _one_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.EBADF,
            errno.EACCES,
        ):  # a folder, where they can't be synced
            raise
    finally:
        os.close(descriptor)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "here"
