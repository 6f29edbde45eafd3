"""From a SPEC to what it names, and to what its results depend on."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.plugins import build, loader, registry
from peftbench.records.runs import Run

CORE = Path(__file__).resolve().parents[2] / "peftbench"


def test_a_runs_identity_is_of_its_model_its_task_and_its_method() -> None:
    of_task = build.task_identity("synthetic:train_items=8")
    entry = registry.get("task", "synthetic")
    assert of_task["task"] == f"{entry.declared} {entry.source_sha256()}" and of_task["data"]
    found = build.run_identity("lora:rank=2", "revision", of_task)
    assert found == {"model": "revision", **of_task, "method": build.method_identity("lora")}


def test_an_identity_is_put_together_in_one_place() -> None:
    """Whoever plans, verifies or times a run asks for it, so that none can forget a part."""
    asking = {
        str(file.relative_to(CORE))
        for file in CORE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("method_identity")
    }
    assert asking == {
        "plugins/build.py",
        "execution/restore.py",
    }  # the latter asks whether a method's source changed


def test_a_file_that_a_field_names_is_part_of_the_identity(tmp_path: Path) -> None:
    """Without a `fingerprint()` of the method's own."""
    plugin, numbers = tmp_path / "reads_a_file.py", tmp_path / "numbers.txt"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom peftbench import Claims, Preset, method\n"
        "@method('reads-a-file', Claims(), Preset(1e-3, 'a test'))\n@dataclass(frozen=True)\nclass Reads:\n"
        "    path: str = ''\n    def inject(self, model):\n        raise NotImplementedError\n"
    )
    loader.load_plugins([plugin])
    found = [build.method_identity("reads-a-file")]
    for text in ("1 2 3", "1 2 4"):
        numbers.write_text(text)
        found.append(build.method_identity(f"reads-a-file:path={numbers}"))
    assert len(set(found)) == 3


def test_a_run_refuses_data_that_it_was_not_planned_on(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(60)))
    task = f"csv:path={file}"
    run = make_run(task=task, identity={"model": "1", **build.task_identity(task), "method": "1"})
    build.check_data(run)
    file.write_text(file.read_text().replace("text 7,", "other,"))
    with pytest.raises(UsageError, match="changed since the run was planned"):
        build.check_data(run)
    build.check_data(dataclasses.replace(run, kind="latency"))
