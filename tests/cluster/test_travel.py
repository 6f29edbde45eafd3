"""Files that travel: which of a job's words are paths, and that a copy is what was sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peftbench.cluster.travel import WORDS, chunk, fetched, listing, paths_of, renamed
from peftbench.engine.jobs import Execute
from peftbench.records.runs import Conditions, Run

Make = Callable[..., Run]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody with a plugin, data, a model and a file that is named as a column is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("mine.py", "data.csv", "mydata.csv", "other.csv", "text"):
        (tmp_path / name).write_text(name)
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").write_text("{}")
    return tmp_path


def test_words_of_a_plan_that_are_paths(own: Path) -> None:
    asked = {
        "methods": ["lora:rank=4", "mine", "lora:start=~nobody-here/adapter"], "models": ["org/model", "org/elsewhere", "tiny-encoder"],
        "tasks": ["csv:path=mydata.csv:text=text", "csv:path=data.csv:text=text"], "plugins": [str(own / "mine.py")], "data_dir": None,
        "retain": ["csv:path=text", "csv:path=other.csv"],
    }  # fmt: skip
    found = paths_of({"name": "plan", "asked": asked})
    assert found == {
        "mydata.csv": str(own / "mydata.csv"), "data.csv": str(own / "data.csv"), "org/model": str(own / "org/model"),
        str(own / "mine.py"): str(own / "mine.py"), "other.csv": str(own / "other.csv"),
    }  # fmt: skip
    there = {place: f"/there/{Path(place).name}" for place in found}
    travelled = renamed({"asked": asked}, there, WORDS)["asked"]
    assert travelled["tasks"] == [
        "csv:path=/there/mydata.csv:text=text",
        "csv:path=/there/data.csv:text=text",
    ]
    assert travelled["retain"] == ["csv:path=text", "csv:path=/there/other.csv"]
    assert travelled["plugins"] == ["/there/mine.py"] and travelled["models"][0] == "/there/model"
    assert renamed(travelled, {there: place for place, there in there.items()}) == asked


def test_a_run_says_itself_what_its_paths_are(own: Path, make_run: Make) -> None:
    run = make_run(
        "lora", task="csv:path=data.csv:text=text", places=("data.csv",), identity={"data": "data.csv"}
    )
    job = Execute(run, Conditions()).to_json()
    assert paths_of(job) == {"data.csv": str(own / "data.csv")}
    there = renamed(job, {"data.csv": "/there/data.csv"}, WORDS)["run"]
    assert there["task"] == "csv:path=/there/data.csv:text=text" and there["identity"] == {"data": "data.csv"}


@pytest.mark.parametrize("named", ["data.csv", "org"])
def test_files_are_fetched_once_where_they_are_not_seen(own: Path, named: str) -> None:
    asked: list[str] = []

    def fetch(path: str, name: str) -> Iterator[bytes]:
        asked.append(name)
        yield chunk(path, name, 0)

    leads = str(own / named)
    files = listing(leads)
    assert fetched(leads, files, fetch) == leads and asked == []
    content = {file.name: (Path(leads) / file.name).read_bytes() for file in files}
    hidden = own / "hidden"
    os.rename(leads, hidden)  # as on a machine that does not see it
    for _ in range(2):
        copy = fetched(leads, files, lambda path, name: fetch(str(hidden), name))
        assert {file.name: (Path(copy) / file.name).read_bytes() for file in listing(copy)} == content
    assert len(asked) == len(files)
    (own / named).write_text("something else") if named == "data.csv" else (own / named).mkdir()
    assert fetched(leads, files, fetch) == copy  # what is there by chance is not it
