"""The cache folder, and how something is made in it once."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import PeftbenchError, UsageError
from ..folders import drawn_folder, expanded, share
from ..records.store import reason_unwritable


def cache_folder() -> Path:
    """`PEFTBENCH_CACHE`, else a folder in the platform's cache."""
    if named := os.environ.get("PEFTBENCH_CACHE"):
        return expanded(named, "PEFTBENCH_CACHE")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "peftbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "peftbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peftbench"


def make_once(home: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder aside and rename it to `home`, unless it is there."""
    with writing():
        if home.is_dir():
            return
        home.parent.mkdir(parents=True, exist_ok=True)
        # Its name is drawn: two machines on one cache have processes of the same number.
        aside = drawn_folder(home.parent, f".{home.name}-")
        try:
            make(aside)
            share(aside)
            try:
                aside.rename(home)
            except OSError:  # another program was first
                if not home.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def replace_text(file: Path, text: str) -> None:
    """Write a file whole or not at all. One that can't be written is not: what is remembered only saves time."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, file)


@contextmanager
def writing() -> Iterator[None]:
    """For the block, which writes into the cache, an error of the disk says so.

    Raises:
        UsageError: the cache can't be written.
    """
    try:
        yield
    except PeftbenchError:
        raise
    except Exception as error:
        # Libraries wrap the system's error in one of their own, and what is read meanwhile has errors too.
        reason = reason_unwritable(error)
        within = isinstance(error, OSError) and str(error.filename).startswith(str(cache_folder()))
        if reason is None and not within:
            raise
        reason = reason or getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the cache folder {str(cache_folder())!r} can't be written: {reason}; set PEFTBENCH_CACHE to a folder that can"
        ) from error
