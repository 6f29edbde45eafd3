"""The SHA-256 of files, of large ones remembered from one command to the next as long as nothing of the file changed.

What is remembered lies in the cache folder, a small file for each. It is trusted where size, times, inode and device are what they
were, and where they could not lie: a file that was touched so shortly before it was read that a second change might carry the
same time is read again, as git does it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from .cache import cache_folder, replace_text

LEAST_BYTES = 1 << 20  # of a file that is worth remembering
SETTLED_NS = 2 * 10**9  # how long a file must have been left alone: some systems keep time in whole seconds


def sha256_of(file: Path) -> bytes:
    """Of a file's whole content."""
    status = file.stat()
    if status.st_size < LEAST_BYTES:
        return hashlib.sha256(file.read_bytes()).digest()
    state = _state(status)
    memory = _memory_of(file)
    if (remembered := _remembered(memory, state)) is not None:
        return remembered
    started_ns = time.time_ns()
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").digest()
    settled = max(status.st_mtime_ns, status.st_ctime_ns) < started_ns - SETTLED_NS
    if settled and _state(file.stat()) == state:
        replace_text(memory, json.dumps({"state": state, "sha256": digest.hex()}))
    return digest


def _state(status: os.stat_result) -> list[int]:
    """What changes when a file does. The second time can't be set by a program."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _memory_of(file: Path) -> Path:
    name = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"


def _remembered(memory: Path, state: list[int]) -> bytes | None:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
        return bytes.fromhex(found["sha256"]) if found["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
