"""What a training saves in its middle is what it was then, and an end that comes from there is the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftbench import UsageError, progress
from peftbench.execution import restore
from peftbench.execution.execute import execute
from peftbench.inspection.export import export
from peftbench.inspection.stored_runs import exportable
from peftbench.records.runs import Conditions, Run
from peftbench.records.store import Store
from peftbench.records.weights import saved_steps, step_file

Make = Callable[..., Run]
STEPS, EVERY = 6, 2
HOW = Conditions(save_every=EVERY, keep_weights=True)


class Ended(BaseException):
    """In the place of a kill."""


def ended(run: Run, folder: Path, how: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do a run and end it after step 5."""
    folder.mkdir()

    def step(at: int, steps: int) -> None:
        if at == 5:
            raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", step)
        with pytest.raises(Ended):
            execute(run, folder, how)


def done(run: Run, folder: Path, how: Conditions) -> Path:
    folder.mkdir()
    record = execute(run, folder, how)
    assert record.status == "ok" and (record.training or {})["save_every"] == EVERY
    return folder


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix", "full"])
def test_the_last_saved_step_is_the_end(method: str, make_run: Make, tmp_path: Path) -> None:
    """Also of methods that settle: some triplets of adalora go, and prefixes become one tensor."""
    run = make_run(method, steps=STEPS)
    folder = done(run, tmp_path / "run", HOW)
    assert saved_steps(folder) == [2, 4, 6]
    end, last, middle = (restore.rebuilt(run, folder, step) for step in (None, 6, 4))
    states = [{**p.adaptation.state(), **p.head} for p in (end, last, middle)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    assert any(
        not torch.equal(states[0][name], states[2][name]) for name in states[2].keys() & states[0].keys()
    )


def test_a_training_that_carries_on_has_what_it_saved_before(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("lora", steps=STEPS)
    whole = done(run, tmp_path / "whole", HOW)
    how = dataclasses.replace(HOW, checkpoint_every=3, checkpoint_folder=str(tmp_path / "kept"))
    ended(run, tmp_path / "ended", how, monkeypatch)
    again = done(run, tmp_path / "again", how)
    assert saved_steps(again) == [2, 4, 6]
    for at in (2, 4, 6):
        one, other = (load_file(step_file(folder, at)) for folder in (whole, again))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_another_interval_begins_anew_and_a_folder_that_can_not_be_made_ends_nothing(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no step is lacking, or of another command."""
    run = make_run("lora", steps=STEPS)
    kept = {"checkpoint_every": 3, "checkpoint_folder": str(tmp_path / "kept")}
    ended(run, tmp_path / "ended", Conditions(**kept), monkeypatch)  # type: ignore[arg-type]
    heard: list[dict[str, Any]] = []
    with progress.reported_to(heard.append):
        again = done(run, tmp_path / "again", dataclasses.replace(HOW, **kept))  # type: ignore[arg-type]
    assert saved_steps(again) == [2, 4, 6]
    assert any("another --curve or --save-every, so it begins anew" in e.get("notice", "") for e in heard)
    (tmp_path / "file").touch()
    heard.clear()
    with progress.reported_to(heard.append):
        how = dataclasses.replace(HOW, checkpoint_every=3, checkpoint_folder=str(tmp_path / "file" / "kept"))
        assert saved_steps(done(run, tmp_path / "blocked", how)) == [2, 4, 6]
    assert any("are lost if this run is ended" in e.get("notice", "") for e in heard)


def test_whole_models_and_what_can_not_be_taken_up_again_are_not_saved(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = done(make_run("full", steps=STEPS), tmp_path / "full", Conditions(save_every=EVERY))
    assert saved_steps(full) == []
    from peftbench.models.adaptation import Adaptation

    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(Adaptation, "between_steps", property(lambda self: None, lambda self, value: None))
    with progress.reported_to(heard.append):
        pruned = done(make_run("adalora", steps=STEPS), tmp_path / "pruned", HOW)
    assert saved_steps(pruned) == []
    assert any("does not say what, so no step's weights are saved" in e.get("notice", "") for e in heard)


def test_the_weights_of_a_step_are_exported(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what they are in the card; a step that is not there is named with those that are."""
    run = make_run("lora", steps=STEPS)
    store = Store(tmp_path / "runs")
    with store.staging() as folder:
        stored = store.put(execute(run, folder, HOW), folder)
    export(stored.folder, tmp_path / "to", merged=False, step=4)
    written = load_file(tmp_path / "to" / "adapter_model.safetensors")
    saved = load_file(step_file(stored.folder, 4))
    ours = sorted(
        float(t.norm()) for name, t in saved.items() if "lora" in name or name.endswith((".a", ".b"))
    )
    assert ours and sorted(float(t.norm()) for t in written.values()) == pytest.approx(ours)
    assert (
        "those after step 4 of 6. The table is of the run's end."
        in (tmp_path / "to" / "README.md").read_text()
    )
    monkeypatch.chdir(tmp_path)  # seen from beside the store, as its default is
    assert exportable(Path("runs"), run.key, tmp_path / "other", STEPS).record.key == run.key
    with pytest.raises(UsageError, match="kept no weights after step 3; it has those of 2, 4, 6$"):
        exportable(tmp_path / "runs", run.key, tmp_path / "other", 3)
    step_file(stored.folder, STEPS).unlink()
    with pytest.raises(UsageError, match="step 6 is the end of run .*; leave --step out"):
        exportable(tmp_path / "runs", run.key, tmp_path / "other", STEPS)
    for file in stored.folder.glob("step-*"):
        file.unlink()
    with pytest.raises(UsageError, match="are not there: deleted, or those of a whole model"):
        exportable(tmp_path / "runs", run.key, tmp_path / "other", 4)
