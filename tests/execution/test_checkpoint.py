"""A training that was ended carries on from its checkpoint, to the weights and figures that it would have had."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load_file

from peftbench import progress
from peftbench.execution import checkpoint
from peftbench.execution.execute import execute
from peftbench.plugins.loader import load_plugins
from peftbench.records.record import Record
from peftbench.records.runs import Conditions, Run
from peftbench.records.store import unwritable

Make = Callable[..., Run]
STEPS, EVERY, ENDED = 12, 3, 8
# What takes a while differs from run to run; memory and energy are of the steps since.
TIMED = ("step_s", "data_s", "carried_on", "others_cpu_share", "energy_j", "gpu_before", "gpu_after")

MEDDLES = '''
"""Touches the base and a generator in its first step alone."""

from dataclasses import dataclass

import torch
from torch import nn

from peftbench import Claims, Preset, method, swap, weight_of


class Meddler(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.gain = base, nn.Parameter(weight_of(base).new_ones(len(weight_of(base))))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if self.training:
            if not self.passes:
                torch.manual_seed(1)
                self.base.eval()
            self.passes += 1
        return self.base(x) * self.gain


@method("meddles", Claims(), Preset(1e-2, "a guess"))
@dataclass(frozen=True)
class Meddles:
    def inject(self, model):
        return swap(model, "value", lambda base, sites: Meddler(base))
'''


class Ended(BaseException):
    """In the place of a kill."""


def conditions(folder: Path) -> Conditions:
    return Conditions(
        curve_points=4, keep_weights=True, checkpoint_every=EVERY, checkpoint_folder=str(folder / "kept")
    )


def done(run: Run, folder: Path, how: Conditions) -> tuple[Record, dict[str, torch.Tensor]]:
    folder.mkdir(exist_ok=True)
    record = execute(run, folder, how)
    files = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return record, {name: tensor for file in files for name, tensor in file.items()}


def ended(run: Run, folder: Path, how: Conditions, monkeypatch: pytest.MonkeyPatch, at: int = ENDED) -> None:
    """Do a run and end it after a step."""
    folder.mkdir()

    def step(done: int, steps: int) -> None:
        if done == at:
            raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", step)
        with pytest.raises(Ended):
            execute(run, folder, how)


@pytest.mark.parametrize(
    ("method", "settings", "device"),
    [
        ("lora", {}, "cpu"),
        ("full", {}, "cpu"),
        ("adalora", {}, "cpu"),
        ("prefix", {}, "cpu"),
        ("lora-plus:dropout=0.1", {"accumulate": 2}, "cpu"),
        pytest.param("lora-plus:dropout=0.1", {"accumulate": 2}, "cuda", marks=pytest.mark.cuda),
        pytest.param("qlora", {}, "cuda", marks=pytest.mark.cuda),
    ],
)
def test_what_carries_on_ends_the_same(
    method: str,
    settings: dict[str, Any],
    device: str,
    make_run: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(method, task="synthetic:train_items=64:test_items=40", steps=STEPS, device=device)
    run = dataclasses.replace(run, budget=dataclasses.replace(run.budget, **settings))
    whole, weights = done(run, tmp_path / "whole", Conditions(curve_points=4, keep_weights=True))
    how = conditions(tmp_path)
    ended(run, tmp_path / "ended", how, monkeypatch)
    again, found = done(run, tmp_path / "again", how)
    assert again.training is not None and whole.training is not None
    assert again.training["carried_on"] == [6] and whole.training["carried_on"] == []
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert again.quality == whole.quality
    assert {k: v for k, v in again.training.items() if k not in TIMED} == {
        k: v for k, v in whole.training.items() if k not in TIMED
    }
    assert again.checks == whole.checks
    assert again.curve is not None and whole.curve is not None
    assert [{**p, "train_s": 0} for p in again.curve] == [{**p, "train_s": 0} for p in whole.curve]


def test_twice_ended_and_broken_and_other_files(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, how = (
        make_run("lora", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )
    _, weights = done(run, tmp_path / "whole", Conditions())
    file = tmp_path / "kept" / checkpoint.FILE
    ended(run, tmp_path / "1", how, monkeypatch, at=4)
    first = file.read_bytes()
    ended(run, tmp_path / "2", how, monkeypatch, at=10)
    record, found = done(run, tmp_path / "3", how)
    assert record.training is not None and record.training["carried_on"] == [3, 9]
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    said: list[dict[str, Any]] = []
    for content, why in ((first[: len(first) // 2], "can't be read"), (b"", "can't be read")):
        file.write_bytes(content)
        with progress.reported_to(said.append):
            record, _ = done(run, tmp_path / "4", how)
        assert record.training is not None and not record.training["carried_on"]
        assert any(why in str(event.get("notice")) for event in said)
    file.write_bytes(first)
    monkeypatch.setattr(checkpoint, "VERSION", 0)
    record, _ = done(run, tmp_path / "5", how)
    assert record.training is not None and not record.training["carried_on"]


def test_a_method_that_hides_what_it_keeps_makes_no_checkpoint(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peftbench.models.adaptation import Adaptation

    run, how = (
        make_run("adalora", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )
    keep = Adaptation.__setattr__

    def hide(self: Any, name: str, value: Any) -> None:
        keep(self, name, None if name == "between_steps" else value)

    monkeypatch.setattr(Adaptation, "__setattr__", hide)
    said: list[dict[str, Any]] = []
    with progress.reported_to(said.append):
        done(run, tmp_path / "1", how)
    assert sum("no checkpoint is made" in str(event.get("notice")) for event in said) == 1
    assert not (tmp_path / "kept").exists()


def test_a_curve_of_other_moments_begins_anew(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, how = (
        make_run("lora", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )
    ended(run, tmp_path / "1", dataclasses.replace(how, curve_points=0), monkeypatch)
    record, _ = done(run, tmp_path / "2", how)
    assert record.curve is not None and [point["step"] for point in record.curve] == [3, 6, 9, 12]


def test_a_full_disk_is_no_fault_of_the_run(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, how = (
        make_run("lora", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )

    class Full:
        """A file on a disk that is full after some bytes."""

        def __init__(self) -> None:
            self.written = 0

        def write(self, data: Any) -> int:
            self.written += len(data)
            if self.written > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data)

        def flush(self) -> None:
            return

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return

    given = Path.open

    def full(path: Path, mode: str = "r", **more: Any) -> Any:
        return Full() if path.name.startswith(".state") else given(path, mode, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left") as raised:
        execute(run, tmp_path, how)
    assert unwritable(raised.value) is not None


def test_what_training_touched_before_it_was_ended_is_not_forgotten(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "meddles.py"
    plugin.write_text(MEDDLES)
    load_plugins([plugin])
    run, how = (
        make_run("meddles", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )
    whole, _ = done(run, tmp_path / "whole", Conditions(curve_points=4, keep_weights=True))
    ended(run, tmp_path / "1", how, monkeypatch)
    again, _ = done(run, tmp_path / "2", how)
    assert again.training is not None and again.training["carried_on"] == [6]
    failed = {check["name"] for check in whole.checks or () if check["outcome"] == "fail"}
    assert {"settings", "equal terms"} <= failed
    assert again.checks == whole.checks


def test_a_run_ends_where_a_checkpoint_is_not_allowed(make_run: Make, tmp_path: Path) -> None:
    run, how = (
        make_run("lora", task="synthetic:train_items=64:test_items=40", steps=STEPS),
        conditions(tmp_path),
    )
    (tmp_path / "kept").touch()  # a file stands in the folder's place
    said: list[dict[str, Any]] = []
    with progress.reported_to(said.append):
        record, _ = done(run, tmp_path / "1", how)
    assert record.status == "ok"
    assert any(
        "no checkpoint is kept after step 3: File exists" in str(event.get("notice")) for event in said
    )
