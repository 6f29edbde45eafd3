"""What every engine keeps: one contract, run over those that come with the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from peftbench import UsageError
from peftbench.engine.answers import answer_in, ask, do_alone, log_tail
from peftbench.engine.jobs import JOBS, Analyze, CheckPlugin, Execute, Job, Look, job_from_json
from peftbench.engine.named import engine_named, names
from peftbench.engine.protocol import Capacity, Device, Engine, Event
from peftbench.engine.sweep import sweep
from peftbench.errors import PeftbenchError
from peftbench.records.record import Record
from peftbench.records.runs import Conditions, Planned, Run
from peftbench.records.store import Store

Make = Callable[..., Run]
CRASHES = """
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("crashes", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Crashes(LoRA):
    def inject(self, model):
        raise OSError(28, "No space left on device", "a.file")
"""


# An installed one is taken up by itself. Of `slurm` see test_slurm.py: each of its jobs starts a Python of its own.
@pytest.fixture(scope="module", params=[name for name in names() if name != "slurm"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine_named(request.param) as made:
        yield made


def to_the_end(engine: Engine, wanted: set[int]) -> list[Event]:
    """Everything that some jobs say."""
    said: list[Event] = []
    while wanted - {event["job"] for event in said if "exit" in event}:
        said += engine.events(timeout_s=60.0)
    return said


def test_it_says_what_devices_there_are(engine: Engine) -> None:
    capacity = engine.capacity()
    own = capacity.device("cpu")
    assert own is not None and own.count == 1 and own.memory_bytes > 10**8
    assert capacity.cores >= 1 and capacity.device("auto") == capacity.devices[0]
    assert Capacity.from_json(capacity.to_json()) == capacity


def test_a_run_answers_with_its_record_and_says_how_far_it_is(
    engine: Engine, make_run: Make, tmp_path: Path
) -> None:
    said: list[Event] = []
    run = make_run("lora", steps=3)
    code, answer = do_alone(Execute(run, Conditions(threads=1)), engine, tmp_path, said.append)
    assert code == 0 and answer is not None
    record = Record.from_text(answer["record"])
    assert record.status == "ok" and record.key == run.key
    assert (tmp_path / "predictions.parquet").is_file()
    phases = [event["phase"] for event in said if "phase" in event]
    assert phases[:3] == ["load", "train", "score"]
    assert [event["step"] for event in said if "step" in event] == [1, 2, 3]


def test_events_name_their_job_and_its_exit_is_the_last(
    engine: Engine, make_run: Make, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    runs = [make_run("lora", seed=seed, steps=2) for seed in range(2)]
    numbers = [engine.start(Execute(r, Conditions(threads=1)), f) for r, f in zip(runs, folders, strict=True)]
    said = to_the_end(engine, set(numbers))
    for number, folder, run in zip(numbers, folders, runs, strict=True):
        mine = [event for event in said if event["job"] == number]
        assert mine[-1] == {"job": number, "exit": 0} and all("exit" not in event for event in mine[:-1])
        answer = answer_in(folder)
        assert answer is not None and Record.from_text(answer["record"]).run == run


def test_what_is_wrong_with_what_was_asked_is_the_users_error(engine: Engine) -> None:
    with pytest.raises(UsageError, match="unknown method or task 'lroa'"):
        ask(CheckPlugin("lroa", (), None), engine)
    assert ask(Look(), engine)["cores"] >= 1  # and the engine goes on


def test_a_job_that_fails_leaves_its_reason_in_its_log(engine: Engine, tmp_path: Path) -> None:
    code, answer = do_alone(
        Analyze(str(tmp_path / "absent"), None, None, ()), engine, tmp_path, lambda event: None
    )
    assert (code != 0 and answer is None) or (answer is not None and "error" in answer)
    broken = Analyze(cast(str, 5), None, None, ())  # as no program of ours would ask
    code, answer = do_alone(broken, engine, tmp_path, lambda event: None)
    assert code == 1 and answer is None and "TypeError" in log_tail(tmp_path)[-1]
    with pytest.raises(PeftbenchError, match=r"the analysis failed \(ended with status 1\): TypeError"):
        ask(broken, engine)


def test_a_disk_that_is_full_ends_a_sweep(engine: Engine, make_run: Make, tmp_path: Path) -> None:
    (tmp_path / "crashes.py").write_text(CRASHES)
    run = make_run("crashes", plugins=(str(tmp_path / "crashes.py"),))
    items = [Planned(run, False, 1, 1, None)]
    with pytest.raises(UsageError, match="No space left on device.*; finished runs are kept"):
        list(sweep(items, Store(tmp_path / "store"), engine, watch=lambda event: None))
    assert ask(Look(), engine)["cores"] >= 1


def test_a_job_is_killed_and_the_others_go_on(engine: Engine, make_run: Make, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    long, short = (Execute(make_run("lora", steps=steps), Conditions(threads=1)) for steps in (100_000, 2))
    first, second = engine.start(long, folders[0]), engine.start(short, folders[1])
    engine.kill(first)
    exits = {event["job"]: event["exit"] for event in to_the_end(engine, {first, second}) if "exit" in event}
    assert exits[first] == -9 and exits[second] == 0
    engine.kill(first)  # it has ended, and nothing comes of it
    assert engine.events(timeout_s=0.05) == []


def test_it_is_closed_twice() -> None:
    for name in names():
        with engine_named(name) as made:
            made.close()


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_travels_as_json(name: str, make_run: Make) -> None:
    capacity = Capacity((Device("cpu", 1, 10**9, True),), 2)
    values: dict[str, Any] = {
        "asked": {"methods": ["lora"]}, "capacity": capacity, "run": make_run("lora"), "conditions": Conditions(threads=2),
        "plugins": ("a.py",), "threads": 1, "merged": True, "step": 4,
    }  # fmt: skip
    kind = JOBS[name]
    fields = [field.name for field in dataclasses.fields(kind)]
    job: Job = kind(**{field: values.get(field, "text") for field in fields})
    assert job_from_json(job.to_json()) == job
