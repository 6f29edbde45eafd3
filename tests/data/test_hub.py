"""Names of the hub, the commits that they stand for, and snapshots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from peftbench.data import hub_client
from peftbench.data.hub import Repository, pinned, snapshot
from peftbench.errors import UsageError
from peftbench.models.resolve import resolve_model

from ..support.hub import SmallHub

FILES = {"config.json": b"{}", "1_Pooling/config.json": b"{ }", "model.safetensors": b"weights"}
MODEL = Repository.from_text("org/model")


def fetched(repository: Repository = MODEL) -> Path:
    return snapshot(repository, lambda name: True)[0]


def test_a_snapshot_that_another_program_left_half_filled_is_completed_at_its_commit(hub: SmallHub) -> None:
    first = hub.push("org/model", FILES)
    folder = fetched()
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    hub.push("org/model", {**FILES, "config.json": b"[]"})
    assert fetched() == folder and folder.name == first
    assert {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")} == FILES


def test_a_file_that_was_cut_comes_again(hub: SmallHub) -> None:
    hub.push("org/model", FILES)
    file = fetched() / "model.safetensors"
    file.resolve().write_bytes(b"wei")
    assert (fetched() / "model.safetensors").read_bytes() == b"weights"


def test_what_is_here_is_not_asked_for(hub: SmallHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.push("org/model", FILES)
    fetched()
    said = capsys.readouterr().err
    assert "downloading model 'org/model', 12 bytes" in said and "model.safetensors (7 bytes)" in said
    hub.asked.clear()
    fetched()
    assert hub.asked == [] and capsys.readouterr().err == ""


def test_what_an_older_client_left_whole_is_asked_for_once(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    hub.push("org/model", FILES)
    huggingface_hub.snapshot_download("org/model")
    monkeypatch.setattr("peftbench.data.hub._listing_of_the_client", lambda *given: None)
    hub.asked.clear()
    fetched()
    assert len(hub.asked) == 1
    fetched()
    assert len(hub.asked) == 1


def test_a_tag_and_a_commit_stay_and_a_branch_is_asked_for(hub: SmallHub) -> None:
    first = hub.push("org/model", FILES)
    hub.repositories["org/model"].refs["v1"] = first
    fetched()
    second = hub.push("org/model", {**FILES, "config.json": b"[]"})
    commits = {text: Repository.from_text(text).commit() for text in ("org/model", "org/model@v1")}
    assert set(commits.values()) == {first}
    assert Repository.from_text("org/model@main").commit() == second
    assert fetched(Repository.from_text(f"org/model@{first}")).name == first


def test_a_pinned_name_keeps_its_commit_and_notes_it(hub: SmallHub) -> None:
    first = hub.push("org/model", FILES)
    main = Repository.from_text("org/model@main")
    with pinned() as planned:
        main.commit()
        second = hub.push("org/model", {**FILES, "config.json": b"[]"})
        assert main.commit() == first
        with pinned() as inner:
            main.commit()
    assert planned == inner == {"org/model@main": first}
    assert main.commit() == second
    with pinned(planned):
        assert fetched(main).name == first


def test_without_the_hub_what_lacks_is_named(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("org/model", FILES)
    (fetched() / "config.json").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="is here without config.json, and the hub may not be asked"):
        fetched()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_client, "in_reach", lambda: False)
    with pytest.raises(UsageError, match=r"org/other' is not here, and the hub \(.*\) is out of reach"):
        fetched(Repository.from_text("org/other"))


@pytest.mark.parametrize("text", ["a/b/c", "org/model@", "x y", "org/", "https://huggingface.co/org/model"])
def test_what_is_no_name_is_said(text: str) -> None:
    with pytest.raises(
        UsageError, match="not a name on the hub|names no revision|is an address; write the"
    ) as said:
        Repository.from_text(text)
    if "/" in text:  # a model of that name is not said to be a starter written wrongly
        with pytest.raises(UsageError, match="no folder is called so, and " + re.escape(str(said.value))):
            resolve_model(text)
