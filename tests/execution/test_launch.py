"""A run's processes begin and end together, and say in one line why."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import distributed as dist

from peftbench.engine.answers import LOG
from peftbench.execution import launch, ranks
from peftbench.execution.launch import RankLost, on_ranks
from peftbench.records.record import Record
from peftbench.records.runs import Run

from ..support.commands import TINY, peftbench

Make = Callable[..., Run]
BARE = ["--no-baselines", "--no-profile", "--latency-grid", "none", "--seeds", "1", "--quiet"]
DIES = """
import os, signal
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("dies", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Dies(LoRA):
    def inject(self, model):
        if os.environ.get("RANK") == "1":
            print("here it ends", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().inject(model)
"""


@pytest.fixture
def run(make_run: Make) -> Run:
    return dataclasses.replace(make_run(), ranks=2)


def record_of(run: Run, status: str = "ok", reason: str | None = None) -> dict[str, str]:
    return {"record": Record(run, "", status, reason, environment={}, started_at="").to_text()}


def test_a_rank_that_is_killed_ends_all_at_once(run: Run, tmp_path: Path) -> None:
    """The other one waits for it, and would for half an hour."""

    def do(home: Path) -> dict[str, str]:
        if ranks.own() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()
        return record_of(run)

    begun = time.monotonic()
    with pytest.raises(RankLost, match=r"^rank 1 of 2 was lost: killed by signal SIGKILL"):
        on_ranks(run, tmp_path, do)
    assert time.monotonic() - begun < 20 and not list(tmp_path.glob("rank-*"))


def test_what_the_failing_rank_printed_is_kept(run: Run, tmp_path: Path) -> None:
    def do(home: Path) -> dict[str, str]:
        if ranks.own() == 1:
            raise RuntimeError("no memory there")
        dist.barrier()
        return record_of(run)

    with pytest.raises(
        RankLost, match=r"^rank 1 of 2 was lost: ended with status 1: RuntimeError: no memory there$"
    ):
        on_ranks(run, tmp_path, do)
    assert "Rank 1 of 2:" in (tmp_path / LOG).read_text()


def test_the_record_of_the_rank_that_failed_is_the_runs(run: Run, tmp_path: Path) -> None:
    def do(home: Path) -> dict[str, str]:
        if ranks.own() == 1:
            return record_of(run, "failed", "the loss is nan at step 3")
        dist.barrier()
        return record_of(run)

    record = Record.from_text(on_ranks(run, tmp_path, do)["record"])
    assert (record.status, record.reason) == ("failed", "the loss is nan at step 3")


def test_ranks_end_with_the_process_that_started_them(run: Run, tmp_path: Path) -> None:
    """As when the program's time-out kills the run's process."""
    launcher = os.fork()
    if launcher == 0:

        def do(home: Path) -> dict[str, str]:
            (tmp_path / f"process-{ranks.own()}").write_text(str(os.getpid()))
            time.sleep(60)
            return record_of(run)

        on_ranks(run, tmp_path, do)
        os._exit(0)
    files = [tmp_path / f"process-{rank}" for rank in range(2)]
    until = time.monotonic() + 30
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    processes = [int(file.read_text()) for file in files]
    until = time.monotonic() + 10
    while any(Path(f"/proc/{process}").exists() for process in processes) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_a_run_leaves_the_process_and_the_disk_as_they_were(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folders beside its own, and no handler that makes an error of an interrupt."""
    (tmp_path / "for-a-while").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "for-a-while"))
    monkeypatch.setattr(socket, "getfqdn", lambda *_: "no-such-host.invalid")
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(one) for one in asked]
    (tmp_path / "out").mkdir()

    def do(home: Path) -> dict[str, str]:
        dist.barrier()
        assert signal.getsignal(signal.SIGTERM) == before[1]
        return record_of(run)

    assert on_ranks(run, tmp_path / "out", do) == record_of(run)
    assert [signal.getsignal(one) for one in asked] == before
    assert list((tmp_path / "for-a-while").iterdir()) == list((tmp_path / "out").iterdir()) == []


def test_a_rank_sees_its_gpu_alone_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh takes the GPU of the number LOCAL_RANK where none is in use yet."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    launch._see_one_gpu(1)
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LOCAL_RANK"]) == ("7", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    launch._see_one_gpu(3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_run_whose_rank_dies_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    command = ["run", *TINY, *BARE, "--methods", "dies,lora", "--plugins", "dies.py", "--gpus-per-run", "2"]
    done = peftbench(*command, cwd=tmp_path)
    assert done.returncode == 1 and "| lora" in done.stdout, done.stderr
    assert "each run on 2 processes that share the batch and the base's weights (fsdp)" in done.stdout
    assert "rank 1 of 2 was lost: killed by signal SIGKILL" in done.stdout
    records = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/*/record.json")]
    (bad,) = (record for record in records if record["status"] == "failed")
    assert "here it ends" in bad["log_tail"]
    refused = peftbench(*command[:-1], "99", cwd=tmp_path)
    assert refused.returncode == 2 and "--gpus-per-run 99: each run has a machine with" in refused.stderr
