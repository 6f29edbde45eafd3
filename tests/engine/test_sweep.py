"""Faults, injected for real on tiny models: each ends one run alone, becomes a record, and nothing finished is lost."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.engine.inline import InlineEngine
from peftbench.engine.jobs import Look
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Capacity, Device, Engine, Event
from peftbench.engine.sweep import ONE_BY_ONE, Execution, is_missing, sweep
from peftbench.errors import UsageError
from peftbench.records.record import Record
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store, Stored

from ..support.commands import TINY, peftbench

Make = Callable[..., Run]

FAULTS = '''
import ctypes, os, signal, sys, time
from dataclasses import dataclass
import torch
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("faults", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Faults(LoRA):
    """Fails in its third step as `how` says."""
    how: str = "raise"
    def inject(self, model):
        adaptation = super().inject(model)
        def after_step(step, steps):
            if step < 2:
                return
            print("about to", self.how, flush=True)
            if self.how == "raise":
                raise RuntimeError("as asked")
            if self.how == "nan":
                next(iter(adaptation.params.values())).data.fill_(float("nan"))
            if self.how == "allocate":
                torch.empty(10**15)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "segfault":
                ctypes.string_at(0)
            if self.how == "exit":
                os._exit(7)
            if self.how == "hang":
                time.sleep(600)
            if self.how == "full":
                raise OSError(28, "No space left on device", "predictions.parquet")
        adaptation.after_step = after_step
        return adaptation
'''


@pytest.fixture(scope="module")
def works() -> Any:
    with engine_named() as started:
        yield started


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "faults.py"
    file.write_text(FAULTS)
    return str(file)


def planned(run: Run) -> Planned:
    return Planned(run, False, 1, 1, None)


def do(runs: list[Run], store: Store, works: Engine, how: Execution = ONE_BY_ONE) -> list[Record]:
    items = [planned(run) for run in runs]
    return [stored.record for _, stored in sweep(items, store, works, how, lambda event: None)]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: as asked"),
        ("nan", "Diverged: the loss is nan at step 4"),
        ("allocate", "can't allocate memory|not enough memory"),
        ("kill", "killed by signal SIGKILL (out of memory?)"),
        ("segfault", "killed by signal SIGSEGV"),
        ("exit", "ended with status 7"),
        ("hang", "timed out after 6 s"),
    ],
)
def test_a_fault_is_a_record_and_the_next_run_goes_on(
    make_run: Make, works: Engine, plugin: str, tmp_path: Path, how: str, reason: str
) -> None:
    store = Store(tmp_path / "store")
    bad, good = make_run(f"faults:how={how}", plugins=(plugin,)), make_run("lora")
    # The limit is the bad run's alone: a busy machine may be slower than it with the good one.
    (failed,) = do([bad], store, works, Execution(timeout_s=6.0) if how == "hang" else ONE_BY_ONE)
    (fine,) = do([good], store, works)
    assert failed.status == "failed" and fine.status == "ok"
    assert any(part in (failed.reason or "") for part in reason.split("|")), failed.reason
    assert failed.failed_phase == "train" and failed.failed_step in (2, 3, 4)
    assert failed.failed_memory is not None and failed.failed_memory["resident_bytes"] > 50_000_000
    assert f"about to {how}" in (failed.log_tail or []), failed.log_tail
    if how == "segfault":
        assert any("Segmentation fault" in line for line in failed.log_tail or [])
    if how in ("raise", "allocate"):
        assert any("Traceback" in line for line in failed.log_tail or [])
    assert not list(store.root.glob(".run-*"))


def test_a_figure_that_is_no_number_fails_its_run_and_the_next_one_goes_on(
    make_run: Make, tmp_path: Path
) -> None:
    def do(job: Any, out: Path) -> dict[str, Any]:
        if isinstance(job, Look):
            return Capacity((Device("cpu", 1, 10**9, False),), 1).to_json()
        nll = float("nan") if job.run.seed == 0 else 0.5
        return {"record": Record(job.run, job.run.key, "ok", quality={"nll": nll}).to_text()}

    items = [planned(make_run(seed=seed)) for seed in range(2)]
    bad, good = (stored.record for _, stored in sweep(items, Store(tmp_path), InlineEngine(do)))
    assert (bad.status, bad.reason) == (
        "failed",
        "it left a record that can't be: its quality.nll is not a number below 1e+100",
    )
    assert good.status == "ok"


def test_failures_stand_until_they_are_retried(
    make_run: Make, works: Engine, plugin: str, tmp_path: Path
) -> None:
    store, run = Store(tmp_path / "store"), make_run("faults", plugins=(plugin,))
    do([run], store, works)
    do([run], store, works)
    assert len(list((store.root / run.key).iterdir())) == 1
    do([run], store, works, Execution(retry_failed=True))
    assert len(list((store.root / run.key).iterdir())) == 2


def test_a_full_disk_in_a_run_ends_the_sweep_and_leaves_no_record(
    make_run: Make, works: Engine, plugin: str, tmp_path: Path
) -> None:
    """The next run would fail as well: no row should say that the method failed."""
    store = Store(tmp_path / "store")
    good, full = make_run("lora"), make_run("faults:how=full", plugins=(plugin,))
    with (
        engine_named() as own,
        pytest.raises(UsageError, match="No space left on device; finished runs are kept"),
    ):
        do([good, full, make_run(seed=5)], store, own)
    assert [stored.record.key for stored in store.all()] == [good.key]
    assert not list(store.root.glob(".run-*"))


def small_file_system(folder: Path, kilobytes: int) -> bool:
    """Mount a tmpfs of that size, where this user may."""
    folder.mkdir(exist_ok=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        return subprocess.run(options, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_store_on_a_full_disk(tmp_path: Path) -> None:
    """A tmpfs of 300 kB: one line, status 2, every record whole, and the same command carries on with more space."""
    home = tmp_path / "small"
    if not small_file_system(home, 300):
        pytest.skip("no tmpfs can be mounted here; a full disk is covered by the injected one")
    arguments = [
        "run",
        *TINY,
        "--latency-grid",
        "none",
        "--no-profile",
        "--no-baselines",
        "--methods",
        "lora",
        "--seeds",
        "12",
    ]
    try:
        done = peftbench(*arguments, "--store", str(home / "runs"), cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert "No space left on device" in last and "the same command carries on" in last
        assert "Traceback" not in done.stderr
        records = list((home / "runs").glob("*/*/record.json"))
        assert 0 < len(records) < 12 and not list((home / "runs").glob(".run-*"))
        assert all(json.loads(file.read_text())["status"] == "ok" for file in records)
        before = {file: file.read_bytes() for file in records}
        subprocess.run(["mount", "-o", "remount,size=20m", str(home)], check=True)
        again = peftbench(*arguments, "--store", str(home / "runs"), cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert all(file.read_bytes() == content for file, content in before.items())
        assert len(list((home / "runs").glob("*/*/record.json"))) == 12
    finally:
        subprocess.run(["umount", "-l", str(home)], check=False)


@pytest.mark.parametrize("file", ["record.json", "predictions.parquet", "pseudo_values.parquet", "log.txt"])
@pytest.mark.parametrize("damage", ["truncated", "zeroed", "missing"])
def test_power_loss_is_seen_and_the_run_done_again(
    finished: Path, make_run: Make, tmp_path: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "store")
    store, run = Store(tmp_path / "store"), make_run("lora")
    path = store.root / run.key / "0001" / file
    content = path.read_bytes() or b"\0"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\0" * len(content))
    if file == "log.txt" and path.is_file() and path.stat().st_size == 0 and damage == "truncated":
        return  # it was empty before
    assert store.get(run.key) is None
    said = capsys.readouterr().err
    assert (file == "record.json" and damage == "missing") or file in said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, works: Engine) -> Path:
    """A store with one finished run, the one that `make_run("lora")` asks for."""
    root = tmp_path_factory.mktemp("finished") / "store"
    make: Any = make_run_of_the_module()
    do([make("lora")], Store(root), works)
    return root


def make_run_of_the_module() -> Make:
    from .. import conftest

    return conftest.make_run.__wrapped__()  # type: ignore[attr-defined,no-any-return]


def test_deleted_weights_do_not_make_a_result_invalid(finished: Path, make_run: Make, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "store")
    store, run = Store(tmp_path / "store"), make_run("lora")
    (store.root / run.key / "0001" / "adapter.safetensors").unlink()
    stored = store.get(run.key)
    assert stored is not None
    assert not is_missing(planned(run), stored, ONE_BY_ONE)
    assert is_missing(planned(run), stored, Execution(keep_weights=True))
    assert is_missing(planned(run), stored, Execution(save_every=2))
    training = {**(stored.record.training or {}), "save_every": 2}
    saved = dataclasses.replace(stored, record=dataclasses.replace(stored.record, training=training))
    assert not is_missing(planned(run), saved, Execution(save_every=2))


def test_weights_of_whole_models_are_kept_when_asked(make_run: Make, works: Engine, tmp_path: Path) -> None:
    store, run = Store(tmp_path / "store"), make_run("full")
    do([run], store, works)
    stored = store.get(run.key)
    assert stored is not None and not (stored.folder / "adapter.safetensors").exists()
    do([run], store, works, Execution(keep_weights=True))
    stored = store.get(run.key)
    assert stored is not None and (stored.folder / "adapter.safetensors").stat().st_size > 100_000
    assert stored.record.files["adapter.safetensors"]["bytes"] == stored.record.parameters["stored_bytes"]  # type: ignore[index]


def test_jobs_at_once_give_the_same_results_and_latency_is_alone(make_run: Make, tmp_path: Path) -> None:
    runs = [make_run("lora", seed=seed) for seed in range(3)] + [
        make_run(kind="latency"),
        make_run("adapter"),
    ]
    at_once: list[int] = []

    def watch(event: Event) -> None:
        if "started" in event:
            flying.add(event["job"])
            kinds[event["job"]] = event["started"]["kind"]
        if "exit" in event:
            flying.discard(event["job"])
        if any(kinds[job] == "latency" for job in flying):
            assert len(flying) == 1
        at_once.append(len(flying))

    flying: set[int] = set()
    kinds: dict[int, str] = {}
    with engine_named() as works:
        shared = list(
            sweep([planned(r) for r in runs], Store(tmp_path / "a"), works, Execution(jobs=2), watch)
        )
    assert max(at_once) == 2
    by_key: dict[str, Stored] = {item.run.key: stored for item, stored in shared}
    trained = [stored.record for stored in by_key.values() if stored.record.run.kind == "training"]
    assert len(trained) == 4 and all(r.status == "ok" and r.environment["jobs"] == 2 for r in trained)
    assert all(r.environment["threads"] == 1 for r in trained)  # as each run's key has it
    with engine_named() as works:
        (alone,) = do([runs[0]], Store(tmp_path / "b"), works)
    beside = by_key[runs[0].key].record
    assert beside.files["predictions.parquet"]["sha256"] == alone.files["predictions.parquet"]["sha256"]
    assert (beside.training or {})["losses"] == (alone.training or {})["losses"]
    latency = next(s.record for s in by_key.values() if s.record.run.kind == "latency")
    assert latency.environment["jobs"] == 1


def test_two_programs_on_one_store_do_not_harm_each_other(tmp_path: Path) -> None:
    arguments = [
        *TINY,
        "--latency-grid",
        "none",
        "--no-profile",
        "--no-baselines",
        "--methods",
        "lora",
        "--seeds",
        "3",
    ]
    command = [sys.executable, "-m", "peftbench", "run", *arguments, "--store", "shared", "--format", "csv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    programs = [
        subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        for _ in range(2)
    ]
    outputs = [program.communicate(timeout=200) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], outputs
    assert len([path for path in (tmp_path / "shared").iterdir() if not path.name.startswith(".")]) == 3
    for file in (tmp_path / "shared").glob("*/*/record.json"):
        assert Record.from_file(file).status == "ok"


def test_dry_run_says_what_there_is_and_what_is_to_do(tmp_path: Path) -> None:
    arguments = ["run", *TINY, "--latency-grid", "1x8", "--methods", "lora", "--seeds", "2", "--no-baselines"]
    first = peftbench(*arguments, "--dry-run", cwd=tmp_path)
    assert first.returncode == 0 and "6 of 6 runs to do" in first.stdout and "2,048" in first.stdout, (
        first.stderr
    )
    assert not (tmp_path / "runs").exists()
    assert peftbench(*arguments, "--quiet", cwd=tmp_path).returncode == 0
    again = peftbench(*arguments, "--dry-run", "--tune", "3", cwd=tmp_path)
    assert "6 of 12 runs to do" in again.stdout and "0.00063, 0.002, 0.0063" in again.stdout
