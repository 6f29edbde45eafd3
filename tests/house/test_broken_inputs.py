"""Whatever is broken in an input, the program ends with a line and a status of its own, and what is stored stays as it was.

Some hundred broken inputs are made from good ones, always the same; `benchmarks/fuzz.py` makes many times as many, and prints
with which status each ended.
"""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from peftbench.cli.app import main
from peftbench.plugins import loader, registry
from peftbench.records.record import Record
from peftbench.records.store import Store

from .. import conftest
from ..support.broken import broken_bytes, broken_json, broken_text, broken_words
from ..support.results import result

TIMES = int(os.environ.get("PEFTBENCH_FUZZ", "1"))
DRY = ["--engine", "inline", "--dry-run"]
TINY = ["--model", "tiny-encoder", "--task", "synthetic:train_items=64:test_items=40"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs of each kind."""
    home = tmp_path_factory.mktemp("good")
    store, make_run = Store(home / "runs"), conftest.make_run.__wrapped__()  # type: ignore[attr-defined]

    def put(record: Record, files: Path | None = None) -> None:
        with store.staging() as staging:
            if files is not None:
                shutil.copytree(files, staging, dirs_exist_ok=True)
            store.put(record, staging)

    for method in ("lora", "full"):
        for seed in range(2):
            made = result(make_run(method, seed=seed), home / "made", 0.8, noise=seed)
            point = {"step": 2, "train_s": 0.1, "items": 40, "accuracy": 0.7, "nll": 0.6}
            record = made.record.__class__(
                **{**made.record.__dict__, "started_at": f"2026-01-0{seed + 1}", "curve": [point]}
            )
            put(record, made.folder)
    times = {name: [1.0, 1.1] * 20 for name in ("base", "copy of the base", "lora", "lora merged")}
    for seed in range(2):
        run = make_run("lora", seed=seed, kind="latency")
        put(Record(run, run.key, "ok", latency=[{"batch": 1, "length": 8, "ms": times, "refusal": None}]))
    run = make_run("lora", kind="profile")
    profile = {"memory_by_kind": {"weights_bytes": 100}, "flops": [{"padded_tokens": 100, "flops": 200}]}
    put(Record(run, run.key, "ok", profile=profile))
    run = make_run("adapter")
    put(Record(run, run.key, "failed", "RuntimeError: x", "train", 3, log_tail=["x"]))
    return home / "runs"


@pytest.fixture
def attempt(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[list[str], str], int]]:
    """Do a command in this process; what is not a status of its own is collected, and shown at the end."""
    statuses: collections.Counter[Any] = collections.Counter()
    wrong: list[str] = []

    def do(arguments: list[str], about: str) -> int:
        status: Any = None
        try:
            main(arguments)
        except SystemExit as ended:
            status = ended.code
        except BaseException:  # noqa: BLE001  that is what is looked for
            wrong.append(f"{arguments}: {about}\n{traceback.format_exc(limit=-4)}")
        out, err = capsys.readouterr()
        statuses[status] += 1
        if status not in (0, 1, 2, None):
            wrong.append(f"{arguments}: {about}: status {status}")
        if "Traceback" in out + err or "failed (ended with" in err:
            wrong.append(f"{arguments}: {about}\n{(out + err)[-800:]}")
        if any(mark in out + err for mark in ("\x1b", "\x00")):
            wrong.append(f"{arguments}: {about}: a control character in {(out + err)[-300:]!r}")
        return int(status or 0)

    yield do
    with capsys.disabled():
        print(f" {dict(statuses)}", end="", flush=True)
    assert not wrong, f"{len(wrong)} of {statuses.total()}\n" + "\n".join(wrong[:5])


def digest(folder: Path) -> str:
    """Of every file below a folder."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return found.hexdigest()


Attempt = Callable[[list[str], str], int]
READ = [
    ["report"], ["report", "--format", "json"], ["report", "--format", "html"], ["report", "--format", "csv"],
    ["report", "--format", "latex"], ["report", "--advise"], ["list", "runs"], ["list", "runs", "--format", "json"],
]  # fmt: skip


def test_broken_records(good: Path, attempt: Attempt, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    shutil.copytree(good, store)
    records = sorted(store.rglob("record.json"))
    draw = random.Random(0)
    for number in range(160 * TIMES):
        file = draw.choice(records)
        text = file.read_text()
        made = broken_json(json.loads(text), draw)
        file.write_text(made, encoding="utf-8", errors="replace")
        before = digest(store)
        command = READ[number % len(READ)]
        status = attempt([*command, "--store", str(store)], made)
        assert digest(store) == before
        assert status == 0, f"{command}, one record being {made}"
        if number % 8 == 0:
            attempt(["compare", str(store), str(good)], made)
            attempt(["show", file.parts[-3][:10], "--store", str(store)], made)
            attempt(["compare", str(file), str(file)], made)
        file.write_text(text)


def rows(kind: str) -> str:
    pairs = [(f"good thing {i}" if i % 2 else f"bad thing {i}", "ab"[i % 2], str(i % 7)) for i in range(40)]
    if kind == "jsonl":
        return "".join(
            json.dumps(dict(zip(("text", "label", "group"), row, strict=True))) + "\n" for row in pairs
        )
    return "text,label,group\n" + "".join(",".join(row) + "\n" for row in pairs)


TOML = 'name = "topics-{number}"\nkind = "csv"\ndescription = "What it is about."\npath = "data.csv"\ntext = "text"\nmax_length = 16\n'


def test_broken_data(attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    pd.read_csv(io.StringIO(rows("csv"))).to_parquet("good.parquet")
    for number in range(60 * TIMES):
        kind = ("csv", "jsonl", "toml", "parquet", "csv.gz")[number % 5]
        Path("data.csv").write_text(rows("csv"))
        if kind in ("parquet", "csv.gz"):
            whole = (
                gzip.compress(rows("csv").encode(), mtime=0)
                if kind == "csv.gz"
                else Path("good.parquet").read_bytes()
            )
            made = broken_bytes(whole, draw)
        else:
            text = TOML.format(number=number) if kind == "toml" else rows(kind)
            made = broken_text(text, draw).encode("utf-8", "replace")
        Path(f"data.{kind}").write_bytes(made)
        task = f"topics-{number}" if kind == "toml" else f"{kind.partition('.')[0]}:path=data.{kind}"
        plugins = ["--plugins", "data.toml"] if kind == "toml" else []
        command = ["run", *DRY, "--model", "tiny-encoder", "--methods", "lora", "--task", task, *plugins]
        with forgotten():
            attempt(command, f"{kind}: {made!r:.900}")
    assert not (tmp_path / "runs").exists()


def test_broken_models(
    attempt: Attempt, checkpoint: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(2)
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), folder)
    texts = [file for file in sorted(folder.iterdir()) if file.suffix == ".json"]
    for number in range(40 * TIMES):
        file = folder / "config.json" if number % 2 else draw.choice([*texts, folder / "model.safetensors"])
        before = file.read_bytes()
        if file.suffix == ".json":
            made = broken_json(json.loads(before), draw)
            file.write_text(made, encoding="utf-8", errors="replace")
        else:
            made = "cut"
            file.write_bytes(before[: draw.randrange(len(before))])
        attempt(
            ["run", *DRY, "--model", "model", "--methods", "lora", *TINY[2:]], f"{file.name}: {made[:600]}"
        )
        file.write_bytes(before)


PLUGIN = '''"""A method."""
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("mine", claims=Claims(exact_base=True), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Mine(LoRA):
    """A plugin."""
    rank: int = 2

    def inject(self, model):
        return super().inject(model)
'''


class forgotten:
    """For the block, what plugins register is forgotten again."""

    def __enter__(self) -> None:
        self.entries = {kind: dict(entries) for kind, entries in registry._entries.items()}
        self.loaded = dict(loader._loaded_plugins)

    def __exit__(self, *failure: object) -> None:
        registry._entries.update(self.entries)
        loader._loaded_plugins.clear()
        loader._loaded_plugins.update(self.loaded)


def test_broken_plugins(attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(3)
    for number in range(100 * TIMES):
        made = broken_text(PLUGIN, draw)
        file = Path(f"mine_{number}.py")
        file.write_text(made, encoding="utf-8", errors="replace")
        with forgotten():
            attempt(["list", "methods", "--plugins", str(file)], made)
            if number % 4 == 0:
                attempt(["run", *DRY, *TINY, "--methods", "mine", "--plugins", str(file)], made)


COMMANDS = [
    ["report", "--store", "runs", "--format", "markdown", "--columns", "method,score", "--sort", "score:desc", "--baseline", "full"],
    ["report", "--store", "runs", "--advise", "--max-vram", "8GB"],
    ["compare", "runs", "runs", "--fail-on", "accuracy:-1.0", "--force", "--out", "out.md"],
    ["list", "methods", "--format", "json", "--store", "runs"],
    ["list", "runs", "--format", "text", "--store", "runs"],
    ["show", "0", "--store", "runs"],
    ["new", "method", "mine", "--to", "new"],
    ["export", "0", "--to", "exported", "--store", "runs"],
    ["paper", "list"],
    ["--help"],
]  # fmt: skip
ASKED = ["--methods", "lora:rank=4,adapter", *TINY, "--seeds", "2", "--steps", "3", "--lr", "1e-3", "--latency-grid", "1x8",
         "--batch-size", "8", "--max-length", "16", "--timeout", "100", "--train-size", "32,all", "--store", "runs"]  # fmt: skip


def test_broken_command_lines(
    good: Path, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good, tmp_path / "runs")
    before = digest(tmp_path / "runs")
    draw = random.Random(4)
    for number in range(220 * TIMES):
        if number % 3:
            attempt(broken_words(COMMANDS[number % len(COMMANDS)], draw), "words")
        else:
            attempt(["run", *broken_words(ASKED, draw), *DRY], "words")
    assert digest(tmp_path / "runs") == before
