"""The wheel, the three doors from outside, and the rules of the house that a reader can't see."""

from __future__ import annotations

import ast
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from peftbench.plugins import registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy of the tracked folders."""
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    for folder in ("peftbench", "methods", "tasks", "reports"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_nothing_beside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("peftbench", "peftbench"), ("methods", "peftbench/methods"), ("tasks", "peftbench/tasks"),
                            ("reports", "peftbench/reports")):  # fmt: skip
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / folder)}" in names
    for file in (ROOT / "peftbench" / "cli" / "templates").iterdir():
        assert f"peftbench/cli/templates/{file.name}" in names
    assert "peftbench/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"peftbench", "peftbench-0.1.0.dist-info"}


def test_the_wheel_works_away_from_the_checkout_with_a_method_by_entry_point(
    wheel: Path, tmp_path: Path
) -> None:
    """Installed beside a second distribution, without the checkout in sight: its method has a row in the table."""
    shutil.copytree(ROOT / "tests" / "plugin_distribution", tmp_path / "plugin")
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run(
        [*install, "--target", str(site), str(wheel), str(tmp_path / "plugin")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def said(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said("-c", "import peftbench; print(peftbench.__file__)").startswith(str(site))
    arguments = ["run", "--methods", "lora,halved", "--model", "tiny-encoder", "--seeds", "1", "--steps", "2"]
    arguments += ["--task", "synthetic:train_items=64:test_items=40", "--no-baselines", "--no-profile"]
    table = said("-m", "peftbench", *arguments, "--latency-grid", "none", "--format", "csv", "--quiet")
    frame = pd.read_csv(io.StringIO(table)).set_index("method")
    assert frame.loc["halved", "status"] == "ok"
    assert (
        frame.loc["halved", "adapter_parameters"] == 4 * 32 + 32 + 64 + 2 * 32
    )  # biases of the first of two blocks


def test_the_core_names_no_method_task_or_report() -> None:
    """No string of the core equals a registered name, except in the defaults, the starter's list and format words."""
    names = {name for kind in registry.KINDS for name in registry.load(kind)}
    names -= {"adapter", "head", "full", "claims", "seed"}  # words of the field as well
    builtin = {name for name in names if str(registry.load("method").get(name, "")).find("/pytest-") < 0}
    allowed = {
        "defaults.py": names,
        "cli/list.py": {"json", "markdown"},
        "cli/analyze.py": {"json"},
        "data/peft_files.py": {"pissa"},  # a start that the PEFT library knows
        "inspection/card.py": {"peft"},  # what the hub calls the library
        "measure/environment.py": {"peft"},  # the library's version
        "tables/literature.py": {"gsm8k"},  # how the PEFT library's result files call what they test on
        "data/files.py": {"csv", "jsonl", "parquet"},  # kinds of files
    }
    for file in (ROOT / "peftbench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                place = str(file.relative_to(ROOT / "peftbench"))
                assert node.value not in builtin - allowed.get(place, set()), f"{file}:{node.lineno}"
            if isinstance(node, ast.Compare):  # `adapter`, `head` and `full` are words of the field as well
                said = [c.value for c in [node.left, *node.comparators] if isinstance(c, ast.Constant)]
                assert not {"adapter", "head", "full"} & {s for s in said if isinstance(s, str)}, (
                    f"{file}:{node.lineno}"
                )


def sources() -> list[Path]:
    folders = ("peftbench", "methods", "tasks", "reports", "tests", "benchmarks")
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def test_files_stay_short() -> None:
    """Or their first lines say why not: "Long because ..."."""
    for file in sources():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400 or "Long because" in text[:2000], file


def test_no_function_takes_more_than_eight_parameters() -> None:
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                taken = [name for name in names if name not in ("self", "cls")]
                # pytest hands a test its fixtures by their names; nobody calls it
                assert len(taken) <= 8 or node.name.startswith("test_"), f"{file}:{node.lineno} {node.name}"
