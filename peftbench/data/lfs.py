"""What git-lfs leaves in the place of a large file that it has not fetched."""

from __future__ import annotations

from pathlib import Path

POINTER_BYTES = 1024  # at the most


def is_pointer(file: Path) -> bool:
    """Whether a file is a few lines that say where the file itself is."""
    return file.stat().st_size < POINTER_BYTES and file.read_bytes().startswith(b"version https://git-lfs")
