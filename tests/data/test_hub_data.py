"""Data sets of the hub: at one commit, without a request for what is here."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from peftbench.data import hub_client
from peftbench.data.hub import Repository, pinned
from peftbench.data.hub_data import HubData, folder_splits
from peftbench.errors import UsageError
from peftbench.plugins.build import build_task, commits_of

from ..support.hub import SmallHub

CARD = b"""---
configs:
- {config_name: first, data_files: first.csv}
- {config_name: second, data_files: second.csv}
---
"""


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": [f"text {i}" for i in range(rows)], "label": [f"{i % 2}" for i in range(rows)]})
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def lengths(text: str, config: str | None = None) -> dict[str, int]:
    splits = HubData(Repository.from_text(text, "dataset"), config).splits()
    return {split: len(rows) for split, rows in splits.items()}


def test_it_comes_once_and_stays_at_its_commit(hub: SmallHub, capsys: pytest.CaptureFixture[str]) -> None:
    first = hub.push("datasets/org/data", {"train.parquet": parquet(40), "test.parquet": parquet(10)})
    assert lengths("org/data") == {"train": 40, "test": 10}
    assert "downloading data set 'org/data' at " in capsys.readouterr().err
    hub.push("datasets/org/data", {"train.parquet": parquet(50)})
    hub.asked.clear()
    assert lengths("org/data") == {"train": 40, "test": 10} and hub.asked == []
    assert lengths("org/data@main") == {"train": 50}
    hub.asked.clear()
    assert lengths(f"org/data@{first}") == {"train": 40, "test": 10} and hub.asked == []


def test_a_plan_notes_what_it_read_and_a_worker_reads_that(hub: SmallHub) -> None:
    first = hub.push("datasets/org/data", {"train.parquet": parquet(60)})
    task = "hub:path=org/data:revision=main"
    read = commits_of("lora", [task])
    planned = build_task(task).fingerprint()
    hub.push("datasets/org/data", {"train.parquet": parquet(70)})
    assert read == {"datasets/org/data@main": first}
    hub.asked.clear()
    with pinned(read):
        assert build_task(task).fingerprint() == planned and hub.asked == []
    assert build_task(task).fingerprint() != planned


def test_what_is_known_of_the_data_does_not_load_it(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("datasets/org/data", {"train.parquet": parquet(60)})
    before = build_task("hub:path=org/data").objective
    monkeypatch.setattr(HubData, "splits", lambda self: pytest.fail("it was loaded"))
    assert build_task("hub:path=org/data").objective == before


def test_configurations_are_named(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = b"text,label\na,0\nb,1\n"
    hub.push("datasets/org/data", {"README.md": CARD, "first.csv": rows, "second.csv": rows + b"c,1\n"})
    with pytest.raises(
        UsageError, match="several configurations, first, second: name one with :config=first"
    ):
        lengths("org/data")
    with pytest.raises(UsageError, match="no configuration 'third'; it has first, second"):
        lengths("org/data", "third")
    assert lengths("org/data", "second") == {"train": 3}
    assert lengths("org/data", "first") == {"train": 2}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert lengths("org/data", "second") == {"train": 3}
    with pytest.raises(UsageError, match="several configurations, first, second"):
        lengths("org/data")


def test_a_script_is_taken_by_the_hubs_own_conversion_and_never_run(hub: SmallHub) -> None:
    hub.push("datasets/org/data", {"data.py": b"raise SystemExit"})
    hub.push("datasets/org/data", {"default/train/0000.parquet": parquet(30)}, "refs/convert/parquet")
    with pytest.raises(UsageError, match="such code is never run"):
        lengths("org/data@main")
    assert lengths("org/data") == {"train": 30}
    hub.asked.clear()
    assert lengths("org/data") == {"train": 30} and hub.asked == []


def test_what_another_program_loaded_serves_without_the_hub(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    commit = hub.push("datasets/org/data", {"train.parquet": parquet(20)})
    datasets.load_dataset("org/data", revision=commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pinned() as read:
        assert lengths("org/data") == {"train": 20}
    assert read == {"datasets/org/data": commit}
    with pytest.raises(UsageError, match="is not here at 0000"):
        lengths("org/data@" + "0" * 40)
    with pytest.raises(UsageError, match="data set 'org/none' is not here"):
        lengths("org/none")


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_csv_is_taken_as_it_is_written(place: str, hub: SmallHub, tmp_path: Path) -> None:
    rows = 'text,label\nnull,007\nNA,7\n"a, b",None\n'
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text(rows)
    hub.push("datasets/org/data", tmp_path / "rows")
    found = (
        folder_splits(str(tmp_path / "rows"), None)
        if place == "folder"
        else HubData(Repository.from_text("org/data", "dataset")).splits()
    )
    assert found["train"].to_dict() == {"text": ["null", "NA", "a, b"], "label": ["007", "7", "None"]}


def test_trouble_has_its_line(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="^data set 'org/none': the hub has nothing of this name"):
        lengths("org/none")
    commit = hub.push("datasets/org/data", {"train.parquet": parquet(20)})
    hub.silent_s = 2
    monkeypatch.setattr(hub_client, "SILENCE_S", 0.2)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(UsageError, match="was silent for"):
        lengths(f"org/data@{commit}")
    hub.silent_s = 0
    hub.repositories["datasets/org/data"].gated = True
    with pytest.raises(UsageError, match="it is gated"):
        lengths("org/data")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hub:path=glue", "a data set of the hub is OWNER/NAME"),
        ("hub:path=./none", "data folder './none' does not exist"),
        ("hub:path=org/data@v1:revision=v2", "give one of them"),
    ],
)
def test_what_is_asked_wrongly_is_said(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_task(spec).fingerprint()
