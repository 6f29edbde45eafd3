"""A package index that is a folder: wheels made by a test, found by pip and by nothing else."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from peftbench import Wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and pip sees nothing but the folder that is returned."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "cache"))
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def stock(shelf: Path, files: Mapping[str, str] | None = None) -> Wheel:
    """Put a wheel on the shelf: data files of these texts, all of them wanted, and a module that must never run."""
    files = {"toy_data/data/rows.txt": "rows"} if files is None else files
    file = shelf / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("toy_data/__init__.py", "raise SystemExit('the package was run')")
        archive.writestr(
            "toy_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n"
        )
        archive.writestr(
            "toy_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_data-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Wheel("toy-data", "1.0", sha256, file.stat().st_size, tuple(files))
