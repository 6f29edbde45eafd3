"""The whole command line on tiny models: a comparison from nothing to its table, and what a tired user types."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from peftbench import defaults
from peftbench.cli.app import main

from ..support.commands import TINY, peftbench


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> subprocess.CompletedProcess[str]:
    """The default command on the tiny model and task."""
    return peftbench("run", *TINY, "--latency-grid", "1x8", cwd=home)


def test_the_default_job_prints_its_table(first: subprocess.CompletedProcess[str], home: Path) -> None:
    assert first.returncode == 0, first.stderr
    for method in ("lora", "adapter-h", "prefix", "full (baseline)", "head (baseline)"):
        assert f"| {method} " in first.stdout
    assert "3 seeds" in first.stdout and "tiny-encoder" in first.stdout
    done = [place for place in (home / "runs").iterdir() if place.is_dir()]
    assert (
        "22 runs planned" in first.stderr and 22 <= len(done) <= 22 + 6
    )  # latency takes 3 to 9 processes, of all methods together
    assert f"[{len(done)}/{len(done)}]" in first.stderr
    assert (home / "runs" / "report.html").is_file() and "report.html" in first.stderr


def test_the_same_command_again_runs_nothing(first: subprocess.CompletedProcess[str], home: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (home / "runs").rglob("record.json")}
    again = peftbench("run", *TINY, "--latency-grid", "1x8", "--quiet", cwd=home)
    assert again.returncode == 0 and again.stdout == first.stdout and again.stderr == ""
    assert {p: p.stat().st_mtime_ns for p in (home / "runs").rglob("record.json")} == before


def test_an_interrupt_while_libraries_are_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = peftbench("list", "methods", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "peftbench: interrupted\n")


def test_report_makes_the_same_table_and_other_formats(
    first: subprocess.CompletedProcess[str], home: Path
) -> None:
    assert peftbench("report", cwd=home).stdout == first.stdout
    out = peftbench("report", "--format", "csv", "--out", "t.csv", cwd=home)
    assert out.returncode == 0 and out.stdout == ""
    frame = pd.read_csv(home / "t.csv")
    assert list(frame["method"]) == ["adapter-h", "lora", "prefix", "full", "head"]
    assert frame["adapter_parameters"].tolist() == [2208, 2048, 83072, 41952, 0]
    tables = json.loads(peftbench("report", "--format", "json", cwd=home).stdout)
    assert len(tables) == 1 and tables[0]["rows"][0]["seeds_good"] == 3
    csv = pd.read_csv(io.StringIO(peftbench("report", "--format", "csv", cwd=home).stdout))
    pd.testing.assert_frame_equal(csv, frame)


def test_list_and_show(first: subprocess.CompletedProcess[str], home: Path) -> None:
    runs = json.loads(peftbench("list", "runs", "--format", "json", cwd=home).stdout)
    assert len(runs) >= 22 and {r["status"] for r in runs} == {"ok"}
    trained = next(run for run in runs if run["kind"] == "training")
    shown = peftbench("show", trained["key"], cwd=home)
    assert (
        shown.returncode == 0
        and "peak_above_model_bytes" in shown.stdout
        and "head.safetensors" in shown.stdout
    )
    listed = peftbench("list", "methods", cwd=home).stdout
    assert "rank=8" in listed and "identity_at_init" in listed
    assert "minilm-l6" in peftbench("list", "models", cwd=home).stdout
    assert "rotten-tomatoes" in peftbench("list", "tasks", cwd=home).stdout
    assert "markdown" in peftbench("list", "reports", cwd=home).stdout


def test_latency_prints_its_table_and_runs_once(home: Path) -> None:
    arguments = ["latency", "--model", "tiny-decoder", "--methods", "lora,full", "--latency-grid", "2x8,1x8"]
    arguments += [
        "--rounds",
        "3",
        "--processes",
        "2",
        "--new-tokens",
        "3",
        "--tasks",
        "2",
        "--store",
        "latency",
    ]
    done = peftbench(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    for row in (
        "| base ",
        "| copy of the base ",
        "| lora ",
        "| lora merged ",
        "| full ",
        "| mixed in one pass ",
    ):
        assert row in done.stdout
    assert (
        "time to first token" in done.stdout and "1x8 was not measured: 1 rows can't be shared" in done.stdout
    )
    again = peftbench(*arguments, "--quiet", cwd=home)
    assert again.stdout == done.stdout and again.stderr == ""
    frame = pd.read_csv(io.StringIO(peftbench(*arguments, "--format", "csv", "--quiet", cwd=home).stdout))
    assert {"section", "variant", "cell", "p50_ms", "slowdown_low"} <= set(frame.columns)


def test_a_curve_changes_nothing_else(home: Path) -> None:
    arguments = [*TINY, "--latency-grid", "none", "--no-profile", "--methods", "lora", "--seeds", "2"]
    plain = peftbench("run", *arguments, "--store", "plain", "--format", "csv", cwd=home)
    curved = peftbench("run", *arguments, "--store", "curved", "--curve", "3", "--format", "csv", cwd=home)
    without, with_it = (pd.read_csv(io.StringIO(done.stdout)) for done in (plain, curved))
    assert list(without["score"]) == list(with_it["score"]) and list(without["nll"]) == list(with_it["nll"])
    assert "seconds_to_reference" in with_it and "seconds_to_reference" not in without
    again = peftbench("run", *arguments, "--store", "plain", "--curve", "3", cwd=home)
    assert "| lora " in again.stdout and "s to full" in again.stdout  # what had no curve was run again


def test_doctor(home: Path) -> None:
    said = peftbench("doctor", cwd=home)
    assert said.returncode == 0 and "memory meter:" in said.stdout and "torch" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "lroa"], "unknown method 'lroa'; did you mean 'lora'"),
        (["--methods", "lora", "--task", "rotten-tomatos"], "did you mean 'rotten-tomatoes'"),
        (["--methods", "lora", "--model", "minilm-6l"], "did you mean 'minilm-l6'"),
        (["--methods", "lora", "--model", "./nowhere"], "is not there; give a folder"),
        (["--methods", "lora:rnk=4"], "did you mean 'rank'"),
        (["--methods", "lora:rank=four"], "rank must be an int"),
        (["--methods", "lora:rank=0"], "rank must be 1 or more, not 0"),
        (["--methods", "lora:targets=norm", *TINY], "linear layers only"),
        (["--methods", "lora:targets=nowhere", *TINY], "unknown role 'nowhere'"),
        (["--methods", ""], "--methods is empty"),
        (["--store", "a-file"], "is a file"),
        (["--seeds", "0"], "--seeds must be above 0"),
        (["--seeds", "1000000", "--dry-run"], "--seeds must be 1,000 or less, not 1,000,000"),
        (["--jobs", "100000"], "--jobs must be 1,000 or less"),
        (["--epochs", "1e300"], "--epochs must be 1,000,000 or less"),
        (["--timeout", "1e12"], "--timeout must be 100,000,000 seconds or less"),
        (["--task", "csv:path=data.csv:label=\x1b[2J"], "no column '\\x1b[2J'"),
        (["--lr", "-1"], "--lr must be above 0"),
        (["--steps", "5", "--epochs", "1"], "exclude each other"),
        (["--budget", "standrad"], "unknown budget 'standrad'; did you mean 'standard'"),
        (["--tune", "3", "--lr", "1e-3"], "leave one of them out"),
        (["--tune", "-1"], "--tune must be 0 or more"),
        (["--until", "1", "--seeds", "1"], "--until needs --seeds 2 or more"),
        (["--until", "1", "--max-seeds", "2"], "begins with 3 seeds, above --max-seeds 2"),
        (["--timeout", "0"], "--timeout must be above 0 seconds"),
        (["--curve", "-1"], "--curve must be 0 or more"),
        (["--jobs", "0"], "--jobs must be above 0"),
        (["--baseline", "lroa"], "unknown method 'lroa'; did you mean 'lora'"),
        (["--format", "markdwon"], "unknown report 'markdwon'; did you mean 'markdown'"),
        (["--latency-grid", "1-32"], "is not BATCHxLENGTH"),
        (["--device", "gpu"], "unknown value of --device: 'gpu'"),
        (["--task", "csv:path=absent.csv"], "does not exist"),
        (["--task", "csv"], "task 'csv' needs path"),
        (["--task", "csv:path=data.csv:label=stars"], "no column 'stars'; it has text, label"),
        (["--task", "csv:path=one.csv"], "has one label only"),
        (["--plugins", "broken.py"], "does not import: ZeroDivisionError: division by zero (line 1)"),
        (["--plugins", "absent.py"], "does not exist"),
        (["--mehtods", "lora"], "No such option: --mehtods"),
        (
            ["--methods", "lora", "--methods", "adapter"],
            "--methods is given 2 times, and once is read; give it once; several go into one",
        ),
        (["--seeds", "2", "--seeds=3"], "--seeds is given 2 times"),
        (["--profile", "--no-profile"], "--profile is given 2 times"),
        (["--max-seeds", "7"], "--max-seeds is where --until stops, which is not there"),
        (["--cost-runs", "3", "--no-profile"], "--cost-runs has no effect with --no-profile"),
        (["--compile", "--no-profile"], "--compile times steps of cost runs, which --no-profile leaves out"),
        (
            ["--latency-budget", "9", "--latency-grid", "none"],
            "--latency-budget has no effect with --latency-grid none",
        ),
        (
            ["--methods", "head", "--no-baselines", "--tune", "3", *TINY],
            "--tune searches learning rates, and no method here has one",
        ),
        (
            ["--methods", "head", "--lr", "0.1", *TINY],
            "--lr is of the methods in --methods, and none of them has a learning rate",
        ),
        (["--methods", "full:lr=1"], "unknown field of method 'full': 'lr'; known: none"),
        (["--methods", "lora", "--jobs", "4", *TINY], "--jobs 4: this engine does 1 at a time"),
        (["--methods", "LORA"], "did you mean 'lora'"),
        (["--methods", "lora:rank=8,targets=query"], "fields stand behind colons"),
        (
            ["--task", "data.csv"],
            "'data.csv' is a file, and no task; a file of your own is a field of one, as in csv:path=data.csv",
        ),
        (
            ["--methods", "./broken.py"],
            "is a file, and no method; --plugins ./broken.py loads those that it holds",
        ),
    ],
)
def test_mistakes_get_one_line_and_status_2(
    arguments: list[str],
    said: str,
    home: Path,
    first: subprocess.CompletedProcess[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / "a-file").write_text("not a store")
    (home / "data.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    (home / "one.csv").write_text("text,label\n" + "".join(f"word {i},a\n" for i in range(40)))
    (home / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(home)
    before = sorted((home / "runs").iterdir())
    with pytest.raises(SystemExit) as ended:
        main(["run", "--engine", "inline", *arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == "" and err.startswith("peftbench: ") and said in err and err.count("\n") == 1, err
    assert (home / "a-file").read_text() == "not a store" and sorted((home / "runs").iterdir()) == before


def test_mistakes_in_a_program_of_its_own(home: Path) -> None:
    for arguments in (["--methods", "lroa"], ["--mehtods", "lora"]):
        done = peftbench("run", *arguments, cwd=home)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr


def test_an_unknown_command_and_no_command(home: Path) -> None:
    assert peftbench("rnu", cwd=home).returncode == 2
    helped = peftbench("--help", cwd=home)
    assert helped.returncode == 0 and "run" in helped.stdout
    assert peftbench("report", "--store", "absent", cwd=home).returncode == 2
    assert peftbench("list", "method", cwd=home).stderr.count("\n") == 1


def test_a_method_that_cannot_serve_a_model_is_a_row(home: Path, checkpoint: Callable[[str], str]) -> None:
    """A family without known roles: the prefix and LoRA rows say so, the baselines stand, status 1; alone, status 2."""
    model = checkpoint("deberta")
    arguments = [
        "run",
        *TINY[2:],
        "--model",
        model,
        "--seeds",
        "1",
        "--latency-grid",
        "none",
        "--no-profile",
        "--store",
        "mixed",
    ]
    done = peftbench(*arguments, "--methods", "lora,prefix", cwd=home)
    assert done.returncode == 1, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| prefix"))
    assert "| not supported |" in row
    assert "**prefix** not supported: deberta-v2 models do not take a prefix" in done.stdout
    assert "ONE seed" in done.stdout
    alone = peftbench(*arguments, "--methods", "prefix", cwd=home)
    assert alone.returncode == 2 and "do not take a prefix" in alone.stderr


CRASHES = '''
import os
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("crashes", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Crashes(LoRA):
    """Dies in its third step."""
    how: str = "raise"
    def inject(self, model):
        adaptation = super().inject(model)
        def after_step(step, steps):
            if step == 2:
                if self.how == "raise":
                    raise RuntimeError("as asked")
                os.kill(os.getpid(), 9)
        adaptation.after_step = after_step
        return adaptation
'''


def test_a_crash_is_a_row_and_the_sweep_goes_on(home: Path) -> None:
    (home / "crashes.py").write_text(CRASHES)
    arguments = ["--methods", "crashes,crashes:how=kill,lora", "--plugins", "crashes.py", "--no-baselines"]
    done = peftbench(
        "run", *TINY, *arguments, "--latency-grid", "none", "--no-profile", "--store", "crashed", cwd=home
    )
    assert done.returncode == 1, done.stderr
    assert "**crashes** failed in 3 of 3 seeds: RuntimeError: as asked (train at step 2)" in done.stdout
    assert "**crashes:how=kill** failed in 3 of 3 seeds: killed by signal SIGKILL" in done.stdout
    assert "| lora " in done.stdout and "[9/9]" in done.stderr


def test_own_data_and_a_plugin_from_python(home: Path) -> None:
    """`peftbench.run` in a script without a `__main__` guard."""
    rows = [
        (f"{'good' if i % 2 else 'bad'} thing {i}", "yes" if i % 2 else "no", f"g{i % 30}")
        for i in range(300)
    ]
    frame = pd.DataFrame(rows, columns=["review", "liked", "shop"])
    frame.to_csv(home / "own.csv", index=False)
    frame.to_json(home / "own.jsonl", orient="records", lines=True)
    script = home / "script.py"
    script.write_text(
        "import peftbench\n"
        "for kind in ('csv', 'jsonl'):\n"
        "    f = peftbench.run(['lora'], 'tiny-encoder', f'{kind}:path=own.{kind}:text=review:label=liked:group=shop',\n"
        "                      seeds=2, steps=3, latency_grid=(), profile=False, store='own')\n"
        "    print(kind, list(f['method']), list(f['seeds_good']), f['score'].between(0, 1).all())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{kind} ['lora', 'full', 'head'] [2, 2, 2] True" for kind in ("csv", "jsonl")
    ]


def test_defaults_exist() -> None:
    from peftbench.models.starters import STARTERS
    from peftbench.plugins import registry

    assert defaults.MODEL in STARTERS
    registry.get("task", defaults.TASK)
    for name in (*defaults.METHODS.split(","), *defaults.BASELINES, defaults.REFERENCE):
        registry.get("method", name)


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, peftbench.cli.app; sys.exit(bool({'torch', 'pandas', 'psutil'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
