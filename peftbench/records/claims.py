"""Claims: several programs on one store share its runs, and none is done twice.

`STORE/.claims/<key>` says who does a run. It is made with O_EXCL, which is atomic on local file systems and on NFS from version 3 on, and
is touched while its owner lives. Nobody's clock is believed: a claim that a program has seen unchanged for `EXPIRY_S` of its own
time is a dead owner's, and so is one of a process of this machine that is gone. It is then moved aside, which one program can do alone.
A store stays whole without all this: an owner that slept for too long does its run a second time, and the store keeps the first result.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

FOLDER = ".claims"
BEAT_S = 15.0  # between two signs of life
EXPIRY_S = 150.0  # without one: NFS may show what is older than a minute
LOOK_S = 1.0  # between two looks at what others do
TRIES = 10


@dataclass(frozen=True)
class Owner:
    """Who does a run."""

    token: str  # of one program's life
    host: str
    machine: str  # in which process numbers mean the same
    process: int

    @classmethod
    def here(cls) -> Owner:
        """This program."""
        return cls(secrets.token_hex(8), platform.node(), _machine(), os.getpid())

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that has ended. Where another one has its number by now, its claim expires."""
        if self.machine != _machine():
            return False
        try:
            return psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    @property
    def said(self) -> str:
        return f"process {self.process} on {self.host}" if self.token else "another program"


# Of a claim that can't be read: its owner may be writing it.
NOBODY = Owner("", "", "", 0)


class Claims:
    """What one program claims of a store, until it is closed."""

    def __init__(self, root: Path) -> None:
        self.folder, self.me = root / FOLDER, Owner.here()
        self._held: set[str] = set()
        # Of others' claims: the last sign of life, and when it was first seen.
        self._seen: dict[str, tuple[tuple[str, int], float]] = {}
        self._lock, self._end = threading.Lock(), threading.Event()
        self._beating: threading.Thread | None = None

    def take(self, key: str) -> bool:
        """Whether the run is this program's to do from now on; not where another one is at it, or this one already.

        Raises:
            OSError: the store can't be written.
        """
        if not self._make(key) and not (self._move_aside(key) and self._make(key)):
            return False
        with self._lock:
            self._held.add(key)
        if self._beating is None:
            self._beating = threading.Thread(target=self._beat, daemon=True)
            self._beating.start()
        return True

    def give_up(self, key: str) -> None:
        """Let others have the run, or see that it is done."""
        with self._lock:
            self._held.discard(key)
        path = self.folder / key
        with contextlib.suppress(OSError):
            if _owner(path) == self.me:
                path.unlink()

    def owner(self, key: str) -> Owner:
        """Who does a run; `NOBODY` where it was given up since."""
        try:
            return _owner(self.folder / key)
        except FileNotFoundError:
            return NOBODY

    def close(self) -> None:
        """Give up all. May be called twice."""
        self._end.set()
        for key in list(self._held):
            self.give_up(key)
        with contextlib.suppress(OSError):  # there is none, or it holds others' claims
            self.folder.rmdir()

    def _make(self, key: str) -> bool:
        try:
            descriptor = self._opened(self.folder / key)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
                json.dump(asdict(self.me), sink)
        except OSError:  # a full disk: an empty claim would keep all from the run until it expires
            (self.folder / key).unlink(missing_ok=True)
            raise
        return True

    def _opened(self, path: Path) -> int:
        """A new file. The folder is made, again where a program that ended took it away in between."""
        for left in reversed(range(TRIES)):
            self._make_folder()
            try:
                return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileNotFoundError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _make_folder(self) -> None:
        """Whoever may write the store may claim, whatever the umask of the program that is first."""
        if self.folder.is_dir():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another program made it, or took it away
            self.folder.chmod(self.folder.parent.stat().st_mode & 0o2777)

    def _move_aside(self, key: str) -> bool:
        """Whether the claim was a dead owner's, and is gone."""
        path = self.folder / key
        try:
            owner, sign = _owner(path), _sign_of_life(path)
        except FileNotFoundError:
            return True
        if not owner.is_gone:
            known, since_s = self._seen.get(key, (None, 0.0))
            if known != sign:
                self._seen[key] = sign, time.monotonic()
                return False
            if time.monotonic() - since_s < EXPIRY_S:
                return False
        aside = path.with_name(f"{key}.{self.me.token}")
        try:
            path.rename(aside)
        except FileNotFoundError:  # another program was first
            return False
        mine = _owner(aside) == owner
        if not mine:  # of one that had moved the dead one aside before, and made this
            with contextlib.suppress(OSError):
                os.link(aside, path)
        aside.unlink()
        return mine

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            with self._lock:
                held = list(self._held)
            for key in held:
                with contextlib.suppress(OSError):  # it comes again, or the run's end says what is wrong
                    os.utime(self.folder / key)


def _machine() -> str:
    """Where process numbers mean the same: one start of one machine, in one container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _owner(path: Path) -> Owner:
    """Of a claim.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return NOBODY


def _sign_of_life(path: Path) -> tuple[str, int]:
    """What changes while an owner lives. Read through an open file, which on NFS asks the server."""
    with path.open("rb") as claim:
        return claim.read().decode("utf-8", "replace"), os.fstat(claim.fileno()).st_mtime_ns
