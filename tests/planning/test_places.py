"""Where files lie makes no other run: each spelling of a path is the same one, and an export finds it from elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.engine.sweep import sweep
from peftbench.execution.restore import where_it_was
from peftbench.jobs import inline_engine
from peftbench.planning.plan import plan
from peftbench.records.record import Record
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

CAPACITY = Capacity((Device("cpu", 1, 10**9, False),), 1)


@pytest.fixture
def project(checkpoint: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and its data, which is the current one."""
    home = tmp_path / "project"
    shutil.copytree(checkpoint("bert"), home / "bert")
    (home / "data.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(60)))
    monkeypatch.chdir(home)
    return home


def asked_for(model: str, data: str) -> Planned:
    asked = Comparison(
        ("lora",), (model,), (f"csv:path={data}",), baselines=False, seeds=1, latency_grid=(), profile=False
    )
    return plan(asked, CAPACITY)[0]


def test_a_path_in_each_spelling_is_one_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked_for("bert", "data.csv").run
    assert (first.model, first.task, first.home) == ("bert", "csv:path=data.csv", str(project))
    for model, data in (("bert/", "./data.csv"), (f"{project}/bert", f"{project}//data.csv"), ("../project/bert", "data.csv")):  # fmt: skip
        assert asked_for(model, data).run == first
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    other = asked_for("../bert", "../data.csv").run
    assert other.model == "../bert" and other.key == first.key
    assert Run.from_json(other.to_json()) == other


def test_other_content_is_another_run(project: Path) -> None:
    first = asked_for("bert", "data.csv").run
    with (project / "data.csv").open("a") as more:
        more.write("another,a\n")
    assert asked_for("bert", "data.csv").run.key != first.key


def test_what_the_store_holds_comes_with_the_paths_of_now(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    before = make_run(model="there/bert", places=("there/bert",), home="/before")
    now = dataclasses.replace(before, model="bert", places=("bert",), home="/now")
    store = Store(tmp_path)
    with store.staging() as staging:
        store.put(Record(before, before.key, "ok", training={}), staging)
    ((_, stored),) = sweep([Planned(now, False, None, None, None)], store, inline_engine())
    assert stored.record.run == now


def test_relative_paths_are_seen_from_where_they_were(
    project: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run(model="bert", places=("bert",), home=str(project))
    monkeypatch.chdir(tmp_path)
    with where_it_was(run):
        assert Path("bert/config.json").is_file()
    assert Path.cwd() == tmp_path
    shutil.rmtree(project / "bert")
    with (
        pytest.raises(UsageError, match=f"no model; the run used 'bert' from the folder '{project}'"),
        where_it_was(run),
    ):
        raise UsageError("no model")
