"""The README keeps its word: its example runs as printed, its commands exist, its table is this program's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from peftbench.inspection.check_method import check_file
from peftbench.plugins import registry

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_is_short_and_runs_as_printed(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.splitlines()) <= 30
    (tmp_path / "scale.py").write_text(example)
    command = [sys.executable, "-m", "peftbench", "run", "--methods", "lora,scale", "--plugins", "scale.py"]
    command += [
        "--model",
        "tiny-encoder",
        "--task",
        "synthetic:train_items=64:test_items=40",
        "--seeds",
        "2",
        "--steps",
        "3",
    ]
    command += ["--no-baselines", "--latency-grid", "1x8", "--format", "csv", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "table.csv").write_text(done.stdout)
    frame = pd.read_csv(tmp_path / "table.csv").set_index("method")
    assert frame.loc["scale", "status"] == "ok" and frame.loc["scale", "seeds_good"] == 2
    assert frame.loc["scale", "adapter_parameters"] == 2 * (32 + 32 + 64)
    assert frame["latency_1x8_merged_ms"].notna().all()
    checked = check_file(str(tmp_path / "scale.py"), (), tmp_path)
    assert checked and not [
        one for one in checked if one.outcome in ("fail", "not supported", "not tested")
    ], checked


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for page in re.findall(r"\]\((docs/[^)]*)\)", README):
        assert (ROOT / page).exists(), page


def test_the_table_of_the_readme_is_of_the_default_job() -> None:
    for method in ("lora", "adapter-h", "prefix", "full (baseline)", "head (baseline)"):
        row = rf"^\| {re.escape(method)}( \d of \d seeds failed)? +\|"
        assert re.search(row, README, re.MULTILINE), method
    assert "### rotten-tomatoes with minilm-l6" in README


@pytest.mark.parametrize("file", ["README.md", "docs/methods.md"])
def test_methods_that_pages_name_exist(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in re.findall(r"^\| `(\w[\w-]*)` \|", text, re.MULTILINE):
        registry.get("method", name)
