"""The cache folder, and how something is made in it once."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """`PEFTBENCH_CACHE`, else a folder in the platform's cache."""
    if named := os.environ.get("PEFTBENCH_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "peftbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "peftbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peftbench"


def make_once(home: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder aside and rename it to `home`, unless it is there."""
    if home.is_dir():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    # Its name is drawn: two machines on one cache have processes of the same number.
    aside = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        make(aside)
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
        descriptor, aside = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            sink.write(text)
        os.replace(aside, file)
