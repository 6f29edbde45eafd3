"""Folders: what a user names, and new ones with a drawn name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from .errors import UsageError


def drawn_folder(parent: Path, prefix: str) -> Path:
    """Make an empty folder in `parent` that nobody else has, its mode by the umask: a colleague may read what comes of it.

    The standard library's own are for their owner alone.

    Raises:
        OSError: it can't be made.
    """
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        try:
            os.mkdir(folder)
        except FileExistsError:
            continue
        return folder


def share(folder: Path) -> None:
    """Give all files of a new folder its own mode: some libraries make theirs for their owner alone.

    Where the file system gives all files one owner and one mode (FAT, some network shares), it may refuse to; they stay as they are.
    """
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o777 != mode:
            with contextlib.suppress(PermissionError):
                file.chmod(mode)


def expanded(named: str | os.PathLike[str], said: str) -> Path:
    """The path that a user named, with `~` replaced by a home.

    Args:
        said: what it is the path of, which the error begins with, as in `--store`.

    Raises:
        UsageError: it names nothing that could be there.
    """
    text = os.fspath(named)
    if not text.strip() or "\0" in text:
        raise UsageError(f"{said} {text!r} names no file or folder")
    try:
        path = Path(text).expanduser()
        os.lstat(path)
    except RuntimeError:
        raise UsageError(f"{said} {text!r}: there is no such user here; write the whole path") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{said} {text!r} is too long a name for a file or folder") from None
    return path


def normal_path(named: str) -> str:
    """One spelling for all that name the same place: seen from the current folder where it is inside it.

    What is not there stays as it is written: it may be a name of something else.
    """
    path = expanded(named, "path")
    if not path.exists():
        return named
    here, whole = os.getcwd(), os.path.abspath(path)
    if whole == here or whole.startswith(os.path.join(here, "")):
        return os.path.relpath(whole, here)
    return os.path.normpath(path)
