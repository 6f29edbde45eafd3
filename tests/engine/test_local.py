"""The worker process: it does not read the current folder, nothing but events comes through its pipe, and its end is said in a line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench import worker
from peftbench.engine import local
from peftbench.engine.answers import ask
from peftbench.engine.jobs import Look
from peftbench.engine.local import LocalEngine
from peftbench.errors import PeftbenchError

from ..support.commands import TINY, peftbench

# Names of libraries that the worker imports, and one of the standard library's.
SHADOWS = ("accelerate", "statistics", "torch", "psutil")
BARE = ["--no-baselines", "--no-profile", "--latency-grid", "none", "--seeds", "1", "--quiet"]


def test_files_named_as_libraries_are_not_imported(tmp_path: Path) -> None:
    """They would print into the program's pipes, and end it."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("print('never'); raise SystemExit('from the current folder')")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("print('never'); 1 / 0")
    done = peftbench("run", *TINY, *BARE, "--methods", "lora", cwd=tmp_path)
    assert done.returncode == 0 and "| lora" in done.stdout, done.stderr
    assert "never" not in done.stdout + done.stderr


def test_an_empty_entry_of_pythonpath_does_not_name_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `PYTHONPATH=$PYTHONPATH:/lib` leaves one where nothing was set before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch.py").write_text("1 / 0\n")
    monkeypatch.setenv("PYTHONPATH", f":lib{os.pathsep}")
    engine = LocalEngine()
    assert ask(Look(), engine)["cores"] >= 1
    engine.close()


def test_a_plugin_by_its_path_still_works(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\nfrom peftbench import Claims, Preset, method\nfrom .lora import LoRA\n"
        "@method('own', claims=Claims(), preset=Preset(1e-3, source='a test'))\n@dataclass(frozen=True)\nclass Own(LoRA): pass\n"
    )
    done = peftbench("run", *TINY, *BARE, "--methods", "own", "--plugins", "own.py", cwd=tmp_path)
    assert done.returncode == 0 and "| own" in done.stdout, done.stderr


def test_an_installed_program_is_used_inside_a_checkout(tmp_path: Path) -> None:
    """A folder `peftbench` there, without methods, is not taken for it."""
    core = Path(local.__file__).parents[1]
    shutil.copytree(core, tmp_path / "peftbench", ignore=shutil.ignore_patterns("__pycache__"))
    done = peftbench("list", "methods", cwd=tmp_path)
    assert done.returncode == 0 and "lora" in done.stdout, done.stderr
    said = subprocess.run(
        [sys.executable, "-c", "from peftbench.cli.app import main; main(['list', 'reports'])"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    assert said.returncode == 0 and "markdown" in said.stdout


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the test's in the place of the worker."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(local, "WORKER", "in_its_place")
    return tmp_path / "in_its_place.py"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('a library is broken')", r"ended with status 1: RuntimeError: a library is broken; finished runs"),
        ("import sys; sys.exit(3)", r"ended with status 3; finished runs are kept"),
        ("import os, sys; os.write(int(sys.argv[1]), b'hello\\n')", r"sent something that is not an event \('hello'\); finished runs"),
    ],
)  # fmt: skip
def test_what_goes_wrong_there_is_one_line(code: str, said: str, program: Path) -> None:
    program.write_text(f"{code}\n")
    engine = LocalEngine()
    with pytest.raises(PeftbenchError, match=said):
        ask(Look(), engine)
    engine.close()


def test_what_libraries_print_while_they_are_imported_is_no_event(program: Path) -> None:
    program.write_text(
        "import sys, peftbench.worker as worker\nprint('welcome to this library')\n"
        "worker.LIBRARIES = worker.OURS = ()\nworker.main(int(sys.argv[1]))\n"
    )
    engine = LocalEngine()
    assert ask(Look(), engine)["cores"] >= 1
    engine.close()


def test_every_module_of_ours_that_is_imported_beforehand_exists() -> None:
    """A name that was moved would slow every start and nobody would see it."""
    assert all(importlib.util.find_spec(name) is not None for name in worker.OURS)
