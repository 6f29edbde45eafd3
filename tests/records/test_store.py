"""Records and the store: nothing finished is lost, nothing broken is half-read."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.records.record import Record
from peftbench.records.runs import Run
from peftbench.records.store import QUICK_BYTES, Store, _host

Make = Callable[..., Run]


def put(store: Store, run: Run, status: str = "ok", **changes: object) -> Path:
    record = dataclasses.replace(Record(run, run.key, status, started_at="2026-01-01"), **changes)  # type: ignore[arg-type]
    with store.staging() as staging:
        (staging / "log.txt").write_text("hello")
        return store.put(record, staging).folder


def test_the_newest_good_attempt_counts(make_run: Make, tmp_path: Path) -> None:
    store, run = Store(tmp_path), make_run()
    assert put(store, run, "failed", reason="one").name == "0001"
    assert put(store, run, "ok", reason="two").name == "0002"
    assert put(store, run, "failed", reason="three").name == "0003"
    found = store.get(run.key)
    assert found is not None and found.record.reason == "two"
    assert [s.record.key for s in store.all()] == [run.key]
    assert store.find(run.key[:8]).folder.name == "0002"
    for path in (run.key, f"{run.key}/0001"):  # as a file browser gives it, whichever store is asked
        assert Store(tmp_path / "another").find(str(tmp_path / path)).folder.name == "0002"
    with pytest.raises(UsageError, match="no run's key begins"):
        store.find("zzz")


def test_a_good_attempt_is_kept_beside_whatever_its_owner_left(make_run: Make, tmp_path: Path) -> None:
    """The place by their number was taken: a result was given up for the failure that stood there, each time anew."""
    store, run = Store(tmp_path), make_run()
    put(store, run, "failed").rename(tmp_path / run.key / "0002")
    assert put(store, run, "ok").name == "0003"
    found = store.get(run.key)
    assert found is not None and found.record.status == "ok"


@pytest.mark.parametrize("broken", ["", '{"schema": 2', '{"schema": 99}', '{"schema": 2}', "[]", "\xff"])
def test_what_cannot_be_read_is_named_and_skipped(
    make_run: Make, tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = Store(tmp_path), make_run()
    good, bad = put(store, run), put(store, dataclasses.replace(run, seed=1))
    (bad / "record.json").write_bytes(broken.encode("latin-1"))
    assert [s.folder for s in store.all()] == [good]
    assert str(bad / "record.json") in capsys.readouterr().err


def test_weights_are_read_where_they_are_used_alone(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report of thousands of runs must not read all their weights; whoever uses a run's gets those that were written."""
    store, run = Store(tmp_path / "runs"), make_run()
    with store.staging() as staging:
        (staging / "adapter.safetensors").write_bytes(b"weights")
        folder = store.put(Record(run, run.key, "ok", started_at="2026-01-01"), staging).folder
    assert store.find(run.key[:8]).folder == folder
    (folder / "adapter.safetensors").write_bytes(b"WEIGHTS")
    assert [stored.folder for stored in store.all()] == [folder]
    assert store.get(run.key) is None
    with pytest.raises(UsageError, match="changed after they were written"):
        store.find(run.key[:8])
    assert "adapter.safetensors changed after it was written" in capsys.readouterr().err
    (folder / "adapter.safetensors").write_bytes(b"cut")
    assert store.all() == []


@pytest.mark.parametrize(("name", "reported"), [("adapter.safetensors", 1), ("predictions.parquet", 0)])
def test_a_large_file_is_read_too_where_it_is_used(
    name: str, reported: int, make_run: Make, tmp_path: Path
) -> None:
    """One changed byte in what a real model leaves was found nowhere."""
    store, run = Store(tmp_path / "runs"), make_run()
    with store.staging() as staging:
        (staging / name).write_bytes(bytes(QUICK_BYTES + 1))
        folder = store.put(Record(run, run.key, "ok", started_at="2026-01-01"), staging).folder
    assert store.find(run.key[:8]).folder == folder
    (folder / name).write_bytes(bytes(QUICK_BYTES) + b"1")
    assert len(store.all()) == reported  # which uses predictions, and no weights
    with pytest.raises(UsageError):
        store.find(run.key[:8])


def test_a_folder_that_is_no_runs_own_is_named_and_skipped(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was copied under another name counted twice, and no run found one that was renamed."""
    store, runs = Store(tmp_path), [make_run(seed=seed) for seed in range(3)]
    for run in runs:
        put(store, run)
    shutil.copytree(tmp_path / runs[0].key, tmp_path / "backup")
    (tmp_path / runs[1].key).rename(tmp_path / "best")
    listed = os.listdir

    def closed(path: Path) -> list[str]:
        if path == tmp_path / runs[2].key:  # a colleague's
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", closed)
    assert [stored.record.run.seed for stored in store.all()] == [0]
    said = capsys.readouterr().err
    assert f"best/0001/record.json: it is of another run; its folder's name must be {runs[1].key}" in said
    assert f"skipped {tmp_path / runs[2].key}: Permission denied" in said


def test_two_programs_on_one_store(make_run: Make, tmp_path: Path) -> None:
    """The second finds the place taken and leaves it."""
    one, two, run = Store(tmp_path), Store(tmp_path), make_run()
    with one.staging() as a, two.staging() as b:
        assert a != b
        record = Record(run, run.key, "ok", started_at="2026")
        first = one.put(record, a)
        second = two.put(record, b)
    assert first.folder.is_dir() and second.folder.is_dir() and not list(tmp_path.glob(".run-*"))


def test_an_interrupted_run_leaves_nothing(make_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.staging() as staging:
        (staging / "log.txt").write_text("half")
        raise KeyboardInterrupt
    dead, elsewhere = tmp_path / f".run-{_host()}-999999999-x", tmp_path / ".run-elsewhere-999999999-x"
    dead.mkdir()
    elsewhere.mkdir()
    store = Store(tmp_path)  # the next program
    with store.staging():
        assert not dead.exists() and elsewhere.exists()  # another machine's process can't be judged from here
    elsewhere.rmdir()
    assert list(tmp_path.iterdir()) == [] and store.all() == []


def test_what_a_killed_run_left_beside_its_files_is_taken_away(make_run: Make, tmp_path: Path) -> None:
    """The folder of another process of the run, which its launcher would have removed."""
    store, run = Store(tmp_path), make_run()
    with store.staging() as staging:
        (staging / "log.txt").write_text("as far as it came")
        (staging / "rank-1").mkdir()
        (staging / "rank-1" / "log.txt").write_text("the same")
        stored = store.put(Record(run, run.key, "failed", "timed out after 8 s"), staging)
    assert sorted(file.name for file in stored.folder.iterdir()) == ["log.txt", "record.json"]
    assert list(stored.record.files) == ["log.txt"]


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Store(file)
    with pytest.raises(UsageError, match="no store at"):
        Store(tmp_path / "absent").all()
