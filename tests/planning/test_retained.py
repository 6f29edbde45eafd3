"""The tasks of `--retain`: which are refused, and that the order and the folder they are named in make no other run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.comparison.tuning import trial_runs
from peftbench.errors import NotSupported
from peftbench.execution import prepare
from peftbench.measure.environment import capacity
from peftbench.planning import feasibility
from peftbench.planning.plan import plan
from peftbench.plugins import build
from peftbench.records.runs import Planned, Run


def rows(file: Path, said: str) -> None:
    file.write_text(
        "".join(json.dumps({"q": f"{said} {i}", "a": f"say {i % 3} now"}) + "\n" for i in range(60))
    )


def spec(path: object) -> str:
    return f"jsonl:path={path}:prompt=q:completion=a"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with rows to train on, and two more."""
    home = tmp_path / "data"
    home.mkdir()
    for name in ("a", "b", "c"):
        rows(home / f"{name}.jsonl", f"ask of {name}")
    monkeypatch.chdir(home)
    return home


def planned(retain: tuple[str, ...], task: str = spec("a.jsonl"), **changes: object) -> list[Planned]:
    asked = Comparison(
        ("lora",), models=("tiny-decoder",), tasks=(task,), retain=retain, seeds=1, baselines=False
    )
    return plan(dataclasses.replace(asked, **changes), capacity())  # type: ignore[arg-type]


def training(found: list[Planned]) -> Run:
    return next(item.run for item in found if item.run.kind == "training")


def test_neither_order_nor_folder_nor_a_name_twice_makes_another_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(planned((spec("b.jsonl"), spec("c.jsonl"))))
    assert one.retain == (spec("b.jsonl"), spec("c.jsonl")) and one.retain_items == 200
    for again in ((spec("c.jsonl"), spec("b.jsonl")), (spec("b.jsonl"), spec("c.jsonl"), spec("./b.jsonl"))):
        assert training(planned(again)) == one
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "c.jsonl").write_bytes((folder / "c.jsonl").read_bytes())
    moved = training(planned((spec("b.jsonl"), spec(folder / "elsewhere" / "c.jsonl"))))
    assert moved.key == one.key and moved.retain[0] == one.retain[0]
    assert set(one.places) == {"a.jsonl", "b.jsonl", "c.jsonl"}
    monkeypatch.chdir(folder / "elsewhere")
    there = training(planned((spec("../c.jsonl"), spec("../b.jsonl")), spec("../a.jsonl")))
    assert there.key == one.key and Run.from_json(json.loads(json.dumps(there.to_json()))) == there


def test_what_is_retained_is_in_the_key_of_the_reported_runs_alone(folder: Path) -> None:
    looks, plain = planned((spec("b.jsonl"),)), planned(())
    keys = [{item.run.kind: item.run.key for item in its} for its in (looks, plain)]
    assert [kind for kind in keys[0] if keys[0][kind] != keys[1][kind]] == ["training"]
    one, other = training(looks), training(plain)
    assert one.without_looks.key == other.key and other.without_looks is other
    reported = [next(i for i in its if i.run.kind == "training") for its in (looks, plain)]
    assert len({trial_runs(item, 1)[0].run.key for item in reported}) == 1
    others = [training(planned((spec("b.jsonl"),), retain_items=7)), training(planned((spec("c.jsonl"),)))]
    rows(folder / "b.jsonl", "something else")
    others.append(training(planned((spec("b.jsonl"),))))
    assert len({one.key, other.key, *(run.key for run in others)}) == 5
    with pytest.raises(UsageError, match=r"the data of .*b\.jsonl.* changed since the run was planned"):
        build.check_data(one)
    build.check_data(others[-1])


def test_a_task_that_is_trained_on_is_refused(folder: Path) -> None:
    for same in ("a.jsonl", "./a.jsonl", folder / "a.jsonl"):
        with pytest.raises(UsageError, match="it is trained on"):
            planned((spec("b.jsonl"), spec(same)))
    with pytest.raises(UsageError, match="it is trained on"):
        planned((spec("b.jsonl"),), tasks=(spec("a.jsonl"), spec("b.jsonl")))


def test_what_the_model_can_not_do_before_training_is_refused(
    folder: Path, checkpoint: Callable[[str], str]
) -> None:
    with pytest.raises(UsageError, match="--retain synthetic: a model gets a new head for it"):
        planned(("synthetic",))
    with pytest.raises(UsageError, match="for synthetic the model gets a new head in the place of the one"):
        planned((spec("b.jsonl"),), "synthetic")
    with pytest.raises(UsageError, match="--retain .*: model 'tiny-encoder' does not generate text"):
        planned((spec("b.jsonl"),), "synthetic", models=("tiny-encoder",))
    with pytest.raises(UsageError, match="unknown task 'nothing'"):
        planned(("nothing",))
    with pytest.raises(UsageError, match="--retain-items is of the tasks of --retain, and there are none"):
        planned((), retain_items=7)
    (run,) = {item.run.retain for item in planned((spec("b.jsonl"),), models=(checkpoint("t5"),)) if item.run.kind == "training"}  # fmt: skip
    assert run == (spec("b.jsonl"),)


def test_its_texts_must_have_positions_of_the_model(folder: Path, checkpoint: Callable[[str], str]) -> None:
    long = f"{spec('b.jsonl')}:max_new_tokens=100"  # behind 48 of the question: more than the model's 128
    run = training(planned((spec("b.jsonl"),), models=(checkpoint("gpt2"),)))
    model = prepare.load_base(run, prepare.objective_of(run), "meta").model
    assert feasibility.why_too_long(model, prepare.objective_of(run), run) is None
    too_long = feasibility.why_too_long(
        model, prepare.objective_of(run), dataclasses.replace(run, retain=(long,))
    )
    assert (
        too_long is not None and f"--retain {long}, of 48 tokens and max_new_tokens=100 need 148" in too_long
    )
    with pytest.raises((UsageError, NotSupported), match="the model has 128 positions, and --retain"):
        planned((long,), models=(checkpoint("gpt2"),))
