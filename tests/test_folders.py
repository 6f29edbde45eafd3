"""Folders that are renamed into place are for whoever the umask lets in; names that can't be there are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.data.cache import make_once
from peftbench.folders import drawn_folder, expanded
from peftbench.records.store import Store


def private(folder: Path) -> None:
    """As some libraries write their files."""
    (folder / "weights").touch(mode=0o600)


def test_what_is_kept_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        make_once(tmp_path / "cache" / "made", private)
        assert (tmp_path / "cache" / "made" / "weights").stat().st_mode & 0o777 == 0o664
        with Store(tmp_path / "runs").staging() as staging:
            folders = (drawn_folder(tmp_path, "x-"), tmp_path / "cache" / "made", staging)
            assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o775] * 3
    finally:
        os.umask(before)


def test_a_file_system_without_modes_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT that another user mounted: all files have one owner and one mode."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    make_once(tmp_path / "made", private)
    assert (tmp_path / "made" / "weights").is_file()


@pytest.mark.parametrize(
    ("named", "said"),
    [("", "names no file"), (" ", "names no file"), ("a\0b", "names no file"), ("~nobody-of-that-name/x", "no such user"),
     ("x" * 300, "too long a name")],
)  # fmt: skip
def test_what_no_file_can_be_called_is_refused(named: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^--store .*{said}"):
        expanded(named, "--store")


def test_a_path_is_what_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a", "x") == tmp_path / "a" and expanded(Path("absent/b"), "x") == Path("absent/b")
