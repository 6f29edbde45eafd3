"""Stores brought together: each run once, a good result before a failed one, and contradictions named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.records.merge import merge
from peftbench.records.record import Record
from peftbench.records.runs import Run
from peftbench.records.store import Store

from ..support.commands import peftbench

Make = Callable[..., Run]


RULE = {"resolve": 1.0, "first": 3, "cap": 12}


def put(store: Store, run: Run, nll: float, status: str = "ok", rule: dict[str, Any] | None = None) -> None:
    quality = {"accuracy": 0.5, "nll": nll}
    record = Record(run, run.key, status, started_at="2026", quality=quality, sequence=rule)
    with store.staging() as staging:
        (staging / "predictions.parquet").write_text(str(nll))
        (staging / "adapter.safetensors").write_bytes(b"weights")
        store.put(record, staging)


def test_each_run_is_taken_once_with_its_files(make_run: Make, tmp_path: Path) -> None:
    one, two, both = (Store(tmp_path / name) for name in ("one", "two", "both"))
    runs = [make_run(seed=seed) for seed in range(3)]
    for run in runs[:2]:
        put(one, run, 0.25)
    for run in runs[1:]:
        put(two, run, 0.25, rule=RULE)
    put(both, runs[0], 0.9, "failed")
    found = merge([one, two], both)
    assert (found.taken, found.held, found.conflicts) == (3, 1, ())
    assert {s.record.key: s.record.status for s in both.all()} == {run.key: "ok" for run in runs}
    for run in runs:
        there = both.get(run.key)
        assert there is not None and (there.folder / "adapter.safetensors").read_bytes() == b"weights"
    assert merge([one, two], both).taken == 0
    # Both machines' looks spend of the same 5 %, whichever result is kept.
    assert {s.record.key: s.record.rules for s in both.all()} == {
        run.key: [] if run.seed == 0 else [RULE] for run in runs
    }


def test_results_that_contradict_each_other_are_named_and_the_first_stays(
    make_run: Make, tmp_path: Path
) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    run, costs = make_run(), make_run(kind="profile")
    for store, nll in ((one, 0.25), (two, 0.2500000001)):
        put(store, run, nll)
        put(store, costs, nll)
    (said,) = merge([two], one).conflicts
    assert f"run {run.key[:12]} (lora on {run.task}, seed 0) has nll 0.25 and 0.2500000001 in" in said
    there = one.get(run.key)
    assert there is not None and there.record.quality is not None and there.record.quality["nll"] == 0.25


def test_of_two_equal_results_the_one_that_tells_more_is_kept(make_run: Make, tmp_path: Path) -> None:
    """A curve or weights of a part were lost where the other store had the run without them, and it was done again."""
    one, two, run = Store(tmp_path / "one"), Store(tmp_path / "two"), make_run()
    put(one, run, 0.25, rule=RULE)
    put(two, run, 0.25)
    stored = two.get(run.key)
    assert stored is not None
    curve = dataclasses.replace(stored.record, curve=[{"step": 3, "train_s": 0.1, "items": 4, "nll": 0.5}])
    (stored.folder / "record.json").write_text(curve.to_text())
    next(one.root.glob("*/*/adapter.safetensors")).unlink()
    assert merge([two], one).taken == 1 and merge([two], one).taken == 0
    there = one.get(run.key)
    assert there is not None and there.record.curve and there.record.rules == [RULE]
    assert (there.folder / "adapter.safetensors").is_file()
    (there.folder / "adapter.safetensors").unlink()  # now each has what the other one lacks, or less
    put(two, run, 0.25)
    assert merge([two], one).taken == 0


def test_what_is_cut_short_is_not_taken(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    put(one, make_run(), 0.25)
    next(one.root.glob("*/*/adapter.safetensors")).write_bytes(b"cut")
    assert merge([one], two).taken == 0 and "adapter.safetensors" in capsys.readouterr().err
    assert merge([Store(tmp_path)], two).taken == 0  # the folder of the stores
    assert f"{str(tmp_path)!r} holds no results" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is the store to merge into"):
        merge([one], Store(tmp_path / "two" / ".." / "one"))


def test_the_command(make_run: Make, tmp_path: Path) -> None:
    put(Store(tmp_path / "one"), make_run(), 0.25)
    done = peftbench("merge", "one", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "runs: 1 results taken, 0 were there already\n"), done.stderr
    put(Store(tmp_path / "two"), dataclasses.replace(make_run()), 0.5)
    assert peftbench("merge", "two", cwd=tmp_path).returncode == 1
    gone = peftbench("merge", "three", cwd=tmp_path)
    assert gone.returncode == 2 and "there is no store at 'three'" in gone.stderr
