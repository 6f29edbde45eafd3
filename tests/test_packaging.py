"""The wheel, the three doors from outside, and the rules of the house that a reader can't see."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from peftbench import registry

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy of the tracked folders."""
    import shutil

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
    assert "peftbench/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"peftbench", "peftbench-0.1.0.dist-info"}


def test_the_wheel_works_away_from_the_checkout_with_plugins_by_folder_and_entry_point(
    wheel: Path, tmp_path: Path
) -> None:
    """Unpacked beside a second distribution that registers a method by entry point, without the checkout in sight."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    plugin = ROOT / "tests" / "plugin_distribution"
    (site / "peftbench_halved.py").write_text((plugin / "peftbench_halved.py").read_text())
    info = site / "peftbench_halved-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: peftbench-halved\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[peftbench.methods]\nhalved = peftbench_halved\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import peftbench; from peftbench import registry; "
        "assert peftbench.__file__.startswith(sys.argv[1]), peftbench.__file__; "
        "print(sorted(registry.load('method')), registry.get('method', 'halved').summary)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'halved'" in done.stdout and "'lora'" in done.stdout and "half its layers" in done.stdout


def test_the_core_names_no_method_task_or_report() -> None:
    """No string of the core equals a registered name, except in the defaults, the starter's list and format words."""
    names = {name for kind in registry.KINDS for name in registry.load(kind)} - {"adapter", "head", "full"}
    builtin = {name for name in names if str(registry.load("method").get(name, "")).find("/pytest-") < 0}
    allowed = {
        "defaults.py": names,
        "assets.py": {"rotten-tomatoes"},
        "cli.py": {"json"},
        "registry.py": set(),
    }
    for file in (ROOT / "peftbench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in builtin - allowed.get(file.name, set()), f"{file}:{node.lineno}"
            if isinstance(node, ast.Compare):  # `adapter`, `head` and `full` are words of the field as well
                said = [c.value for c in [node.left, *node.comparators] if isinstance(c, ast.Constant)]
                assert not {"adapter", "head", "full"} & {s for s in said if isinstance(s, str)}, (
                    f"{file}:{node.lineno}"
                )


def test_files_stay_short() -> None:
    for folder in ("peftbench", "methods", "tasks", "reports", "tests", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 450, file
