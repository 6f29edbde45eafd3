"""What a user sees of a download: its files and their sizes, and how far it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import progress

LOOK_PERIOD_S = 0.5  # how often a download is looked at
TOLD_PERIOD_S = 30.0  # how often a long one is told of in a line of its own
NAMED_FILES = 6


@contextmanager
def shown(what: str, files: Mapping[str, int], folder: Path) -> Iterator[None]:
    """For the block, which downloads `what`, the user sees what comes and how far it is.

    Args:
        files: their names and bytes.
        folder: where what comes grows, whichever way it comes.
    """
    total = sum(files.values())
    names = [f"{name} ({size_of(size)})" for name, size in files.items()]
    more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
    progress.notify(f"downloading {what}, {size_of(total)}: {', '.join(names[:NAMED_FILES])}{more}")
    before, done = _bytes_in(folder), threading.Event()

    def look() -> None:
        told = time.monotonic()
        while not done.wait(LOOK_PERIOD_S):
            come = min(max(0, _bytes_in(folder) - before), total)
            progress.send({"download": f"downloading {what}", "done_bytes": come, "of_bytes": total})
            if time.monotonic() - told > TOLD_PERIOD_S:
                told = time.monotonic()
                progress.notify(f"{what}: {size_of(come)} of {size_of(total)}")

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()
        progress.send({"download": f"downloading {what}", "done_bytes": total, "of_bytes": total})


def size_of(count: int) -> str:
    """Bytes for a reader, in powers of ten as the hub's pages have them."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.{0 if count >= 10 ** (power + 1) else 1}f} {unit}"
    return f"{count} bytes"


def _bytes_in(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:  # not there yet, or a part was just renamed
        return 0
