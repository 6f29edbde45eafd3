"""`peftbench verify`: a run that is done again comes out bit for bit, and what does not is told from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from peftbench import UsageError
from peftbench.execution.execute import execute
from peftbench.inspection.verify import Reproduction, compare_runs, verify
from peftbench.records.record import Record, check_verifiable
from peftbench.records.results import Result
from peftbench.records.runs import Conditions, Run
from peftbench.render.verdict import verdict_text

from ..support.commands import peftbench


@pytest.fixture
def stored(make_run: Callable[..., Run], tmp_path: Path) -> tuple[Record, Path]:
    """A finished run and its folder."""
    folder = tmp_path / "stored"
    folder.mkdir()
    record = execute(make_run(steps=12), folder, Conditions())
    (folder / "record.json").write_text(record.to_text(), encoding="utf-8")
    return record, folder


def again(folder: Path, out: Path) -> Reproduction:
    out.mkdir()
    return verify(folder, out, (), None)


def test_a_run_comes_out_bit_for_bit(stored: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = stored
    found = again(folder, tmp_path / "again")
    assert found.outcome == "bit for bit" and found.reproduced and found.changed_items == 0
    assert found.then == found.now == (record.quality or {})["accuracy"] and found.items == 40
    # The run of this test has made-up hashes for its sources.
    assert "the method's source" in found.differs and not [d for d in found.differs if d.startswith("torch")]


def test_another_seed_is_not_bit_for_bit_and_another_version_is_named(
    stored: tuple[Record, Path], tmp_path: Path
) -> None:
    record, folder = stored
    libraries = {**record.environment["libraries"], "torch": "1.0"}
    changed = dataclasses.replace(
        record,
        run=dataclasses.replace(record.run, seed=5),
        environment={**record.environment, "libraries": libraries, "threads": 99},
    )
    (folder / "record.json").write_text(changed.to_text(), encoding="utf-8")
    found = again(folder, tmp_path / "again")
    assert found.outcome != "bit for bit" and found.changed_items > 0
    assert [d for d in found.differs if d.startswith("torch 1.0 then")] and [
        d for d in found.differs if "threads 99 then" in d
    ]


def test_the_interval_decides(stored: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = stored
    frame = pd.read_parquet(folder / "predictions.parquet")
    other = tmp_path / "other"
    other.mkdir()
    frame.assign(nll=frame["nll"] + 1e-6).to_parquet(other / "predictions.parquet")
    quality = record.quality or {}
    for shift, outcome in (
        (0.0, "within its interval"),
        (0.05, "within its interval"),
        (0.5, "not reproduced"),
    ):
        now = dataclasses.replace(record, quality={**quality, "accuracy": quality["accuracy"] - shift})
        found = compare_runs(Result(record, folder), Result(now, other), [])
        assert found.outcome == outcome and found.changed_items == 40 and found.reproduced == (shift < 0.5)
        said = verdict_text(dataclasses.asdict(found), metric_is_share=True)
        assert said.startswith(("reproduced " if found.reproduced else "") + outcome) and said.endswith(
            "nothing else differs\n"
        )
    several: list[Any] = [[label, 1] for label in frame["prediction"]]  # numbers an item
    another: list[Any] = [[5, 5], *several[1:]]
    for changed, its in enumerate((several, another)):
        frame.assign(prediction=several).to_parquet(folder / "predictions.parquet")
        frame.assign(prediction=its).to_parquet(other / "predictions.parquet")
        assert compare_runs(Result(record, folder), Result(record, other), []).changed_items == changed
    frame.iloc[:-1].to_parquet(other / "predictions.parquet")
    assert compare_runs(Result(record, folder), Result(record, other), []).outcome == "not reproduced"


def test_a_score_on_other_items_reproduces_nothing(stored: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = stored
    frame = pd.read_parquet(folder / "predictions.parquet")
    other = tmp_path / "other"
    other.mkdir()
    frame.assign(reference=1 - frame["reference"], nll=frame["nll"] + 1).to_parquet(
        other / "predictions.parquet"
    )
    found = compare_runs(Result(record, folder), Result(record, other), ["the data"])
    assert found.outcome == "not reproduced"


def test_what_a_run_looks_at_beside_must_come_out_the_same(stored: tuple[Record, Path]) -> None:
    record, folder = stored
    one, other = (dataclasses.replace(record, forgetting={"after_minus_before": x}) for x in (0.1, 0.2))
    assert compare_runs(Result(one, folder), Result(one, folder), []).outcome == "bit for bit"
    found = compare_runs(Result(one, folder), Result(other, folder), [])
    assert found.outcome == "within its interval" and found.differs == ("what it forgets of another text",)


def test_what_can_not_be_verified_is_said(stored: tuple[Record, Path]) -> None:
    record, _ = stored
    costs = dataclasses.replace(record, run=dataclasses.replace(record.run, kind="latency"))
    with pytest.raises(UsageError, match="a latency run measures costs"):
        check_verifiable(costs)
    with pytest.raises(UsageError, match="this run failed: killed"):
        check_verifiable(dataclasses.replace(record, status="failed", reason="killed"))


def test_from_the_command_line(tmp_path: Path) -> None:
    run: Any = [
        "run",
        "--methods",
        "lora",
        "--model",
        "tiny-encoder",
        "--task",
        "synthetic",
        "--steps",
        "3",
        "--seeds",
        "1",
    ]
    done = peftbench(*run, "--no-baselines", "--latency-grid", "none", "--no-profile", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (key,) = (path.parent.parent.name for path in (tmp_path / "runs").glob("*/*/record.json"))
    found = peftbench("verify", key[:8], cwd=tmp_path)
    assert found.returncode == 0 and found.stdout.startswith("reproduced bit for bit: accuracy"), found.stderr
    assert found.stdout.endswith("0 of 200 predictions differ\nnothing else differs\n")
    assert len(list((tmp_path / "runs" / key).iterdir())) == 1  # the store is as it was
