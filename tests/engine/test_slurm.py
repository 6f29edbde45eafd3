"""Jobs of Slurm, carried out by submitit's executor on this machine."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.engine import slurm
from peftbench.engine.answers import MOST_TRIES
from peftbench.engine.jobs import Execute
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Capacity, Device, Scripted
from peftbench.engine.slurm import SlurmEngine
from peftbench.engine.sweep import sweep
from peftbench.records.runs import Conditions, Planned, Run
from peftbench.records.store import Store

pytest.importorskip("submitit", reason="the engine slurm needs submitit")
Make = Callable[..., Run]


def test_a_program_that_left_comes_back_and_collects(make_run: Make, tmp_path: Path) -> None:
    """Its runs went on meanwhile: none is done twice, and the results are those of this process, bit for bit."""
    runs = [make_run("lora", seed=seed, steps=300) for seed in range(2)]
    store, settings = Store(tmp_path / "store"), f"cluster=local:folder={tmp_path / 'jobs'}"
    left = SlurmEngine(settings)
    for run in runs:
        left.start(Execute(run, Conditions(threads=1, jobs=1)), store.root / "staging")
    training: set[int] = set()
    while len(training) < 2:
        training |= {event["job"] for event in left.events(60) if event.get("phase") == "train"}
    processes: list[Any] = [work.sent for work in left._sent.values()]
    left_at = datetime.datetime.now(datetime.UTC).isoformat()
    back = SlurmEngine(settings)
    back._capacity = Capacity((Device("cpu", 1, 10**9, False),), 2, apart=True)
    found = [
        stored.record for _, stored in sweep([Planned(run, False, 1, 1, None) for run in runs], store, back)
    ]
    for its in processes:
        its._process.wait()
    assert [record.status for record in found] == ["ok", "ok"]
    assert all(record.started_at < left_at for record in found)
    assert not list((tmp_path / "jobs").glob("*/asked.json"))
    with engine_named("inline") as engine:
        here = Store(tmp_path / "here")
        again = [
            stored.record
            for _, stored in sweep([Planned(run, False, 1, 1, None) for run in runs], here, engine)
        ]
    assert {record.key: record.quality for record in found} == {
        record.key: record.quality for record in again
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("partitoin=gpu", "unknown option of the engine slurm 'partitoin'; did you mean 'partition'?"),
        ("gpus=two", "gpus of the engine slurm must be a whole number of 1 or more, not 'two'"),
    ],
)
def test_what_is_wrong_with_its_settings(settings: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)), engine_named(f"slurm:{settings}"):
        pass


def test_it_says_what_sbatch_is_given() -> None:
    with engine_named("slurm:partition=gpu:gpus=1:time=90:mem_gb=32") as engine:
        assert isinstance(engine, Scripted)
        script = engine.script()
    for line in ("--partition=gpu", "--gpus-per-node=1", "--time=90", "--mem=32GB", "--job-name=peftbench"):
        assert f"#SBATCH {line}" in script


def test_without_slurm_it_is_one_line(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = SlurmEngine(f"folder={tmp_path / 'jobs'}")
    engine.start(Execute(make_run(), Conditions()), tmp_path)
    with pytest.raises(UsageError, match="Slurm takes no jobs here: .*sbatch"):
        engine.events(0)
    engine.close()


@pytest.mark.parametrize(("state", "again"), [("NODE_FAIL", True), ("TIMEOUT", False)])
def test_what_a_node_took_with_it_is_sent_again(
    state: str, again: bool, tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def send(engine: SlurmEngine) -> None:
        for number, work in list(engine._unsent.items()):
            sent.append(work.folder.name)
            lost: Any = SimpleNamespace(
                job_id=str(len(sent)), state=state, done=lambda: True, stderr=lambda: "slurmstepd: error", paths=SimpleNamespace(folder=tmp_path)
            )  # fmt: skip
            work.note(lost)
            engine._sent[number] = engine._unsent.pop(number)

    monkeypatch.setattr(SlurmEngine, "_send", send)
    monkeypatch.setattr(slurm, "GRACE_S", 0.0)
    out = tmp_path / "out"
    out.mkdir()
    engine = SlurmEngine(f"folder={tmp_path / 'jobs'}")
    number = engine.start(Execute(make_run(), Conditions()), out)
    said: list[Any] = []
    while not any("exit" in event for event in said):
        said += engine.events(1)
    assert said[-1] == {"job": number, "exit": 1}
    assert len(sent) == (MOST_TRIES if again else 1) and len(set(sent)) == 1
    assert f"Slurm's job {len(sent)} ended: {state}" in (out / "log.txt").read_text()
    assert any("it is sent again" in event.get("notice", "") for event in said) == again
