"""A large file's hash is remembered as long as nothing of the file changed, and never where that could not be seen."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from peftbench.data import digests


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LEAST_BYTES", 4)
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**12))  # any file counts as left alone
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    return file


def reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file is read for its hash, which is right in any case."""
    seen = []
    real = hashlib.file_digest

    def counted(*given: Any) -> Any:
        seen.append(given)
        return real(*given)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert digests.sha256_of(file) == hashlib.sha256(file.read_bytes()).digest()
    monkeypatch.setattr(hashlib, "file_digest", real)
    return bool(seen)


def test_it_is_read_again_when_it_changed_alone(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads(large, monkeypatch) and not reads(large, monkeypatch)
    times = large.stat()
    time.sleep(0.02)
    large.write_bytes(b"12345679")  # as long, and its time put back
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert reads(large, monkeypatch) and not reads(large, monkeypatch)
    other = large.with_name("other")
    other.write_bytes(b"12345670")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(large)
    assert reads(large, monkeypatch)


def test_a_file_that_changed_just_now_is_not_remembered(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", 2 * 10**9)
    assert reads(large, monkeypatch) and reads(large, monkeypatch)


def test_a_broken_memory_and_a_closed_cache_only_cost_time(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reads(large, monkeypatch)
    (memory,) = (tmp_path / "cache" / "digests").iterdir()
    for broken in ("{", "[]", '{"state": 1}', "null"):
        memory.write_text(broken)
        assert reads(large, monkeypatch)
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("PEFTBENCH_CACHE", str(file))
    assert reads(large, monkeypatch)
