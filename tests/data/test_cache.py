"""A cache that can't be written says so, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.data.cache import cache_folder, make_once


def full(folder: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(folder / "x"))


def wrapped(folder: Path) -> None:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("make", [full, wrapped])
def test_a_full_disk_under_the_cache_is_said(
    make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="cache folder .* can't be written: No space left on device; set PEFTBENCH_CACHE"):  # fmt: skip
        make_once(cache_folder() / "rows" / "a", make)  # type: ignore[arg-type]
    assert list((tmp_path / "rows").iterdir()) == []


def test_a_cache_that_is_no_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFTBENCH_CACHE", "/dev/null")
    with pytest.raises(UsageError, match="'/dev/null' can't be written: Not a directory"):
        make_once(cache_folder() / "rows" / "a", lambda folder: None)


def test_errors_of_what_is_read_meanwhile_are_their_own(tmp_path: Path) -> None:
    def missing(folder: Path) -> None:
        (tmp_path / "absent").read_text()

    with pytest.raises(FileNotFoundError):
        make_once(tmp_path / "rows" / "a", missing)
