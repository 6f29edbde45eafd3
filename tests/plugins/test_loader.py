"""Plugin files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.plugins import loader, registry

PLUGIN = '''
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("{name}", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Mine(LoRA):
    """A plugin."""
    rank: int = 2
'''


def test_a_plugin_file_imports_siblings_and_is_hashed_with_them(tmp_path: Path) -> None:
    file = tmp_path / "mine_a.py"
    file.write_text(PLUGIN.format(name="mine-a"))
    loader.load_plugins([file])
    entry = registry.get("method", "mine-a")
    assert entry.target().rank == 2 and entry.summary == "A plugin."
    before = entry.source_sha256()
    assert before != registry.get("method", "lora").source_sha256()
    file.write_text(PLUGIN.format(name="mine-a") + "    size: int = 1\n")
    assert entry.source_sha256() != before


def test_a_plugin_imports_what_stands_beside_it(tmp_path: Path) -> None:
    """A file, a package, and what these import; never the program's file of the same name in its place."""
    for folder, rank in (("one", 3), ("two", 4)):
        (tmp_path / folder / "parts").mkdir(parents=True)
        (tmp_path / folder / "_ranks.py").write_text(f"from .parts import deep\nRANK = deep.RANK + {rank}\n")
        (tmp_path / folder / "parts" / "__init__.py").touch()
        (tmp_path / folder / "parts" / "deep.py").write_text("RANK = 1\n")
        code = PLUGIN.format(name=f"beside-{folder}").replace("= 2", "= RANK")
        (tmp_path / folder / f"beside_{folder}.py").write_text(f"from ._ranks import RANK\n{code}")
    loader.load_plugins([tmp_path / "one" / "beside_one.py"])
    entry = registry.get("method", "beside-one")
    before = entry.source_sha256()
    assert entry.target().rank == 4
    (tmp_path / "one" / "parts" / "deep.py").write_text("RANK = 2\n")
    assert entry.source_sha256() != before
    with pytest.raises(
        UsageError, match=r"imports '_ranks', which stands beside it and in '.*one' too: rename"
    ):
        loader.load_plugins([tmp_path / "two" / "beside_two.py"])
    own = tmp_path / "own_tokens.py"
    own.write_text("from ._virtual_tokens import put\n")
    (tmp_path / "_virtual_tokens.py").write_text("put = 'of one of my own'\n")
    with pytest.raises(UsageError, match="'_virtual_tokens', which stands beside it and in .*methods' too"):
        loader.load_plugins([own])


def test_a_plugin_folder_may_hold_each_kind(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "reports").mkdir()
    (tmp_path / "methods" / "mine_b.py").write_text(PLUGIN.format(name="mine-b"))
    report = '"""Doc."""\nfrom peftbench import report\n@report("count", suffix=".txt")\ndef count(tables): return str(len(tables))\n'
    (tmp_path / "reports" / "count.py").write_text(report)
    loader.load_plugins([tmp_path])
    assert registry.get("method", "mine-b").name == "mine-b"
    assert registry.get("report", "count").target([]) == "0"


def test_a_plugin_that_does_not_import_says_its_own_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(
        UsageError, match="does not import: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ):
        loader.load_plugins([broken])
    syntax = tmp_path / "syntax.py"
    syntax.write_text("x = 1\ndef f(:\n")
    with pytest.raises(UsageError, match=r"SyntaxError: .*\(line 2\)"):
        loader.load_plugins([syntax])
    with pytest.raises(UsageError, match="does not exist"):
        loader.load_plugins([tmp_path / "absent.py"])
    shadow = tmp_path / "lora.py"
    shadow.write_text("")
    with pytest.raises(UsageError, match="rename the file"):
        loader.load_plugins([shadow])


@pytest.mark.parametrize(
    ("leave", "said"),
    [("import sys; sys.exit(3)", "SystemExit: 3"), ("import os; os._exit(4)", "SystemExit: 4"), ("raise SystemExit", "SystemExit")],
)  # fmt: skip
def test_a_plugin_that_leaves_is_an_error_of_its_own(leave: str, said: str, tmp_path: Path) -> None:
    leaves = tmp_path / "leaves.py"
    leaves.write_text(leave)
    with pytest.raises(UsageError, match=f"does not import: {said}.*line 1"):
        loader.load_plugins([leaves])


def test_what_a_plugin_prints_is_not_in_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prints = tmp_path / "prints.py"
    prints.write_text("print('hello')\n")
    loader.load_plugins([prints])
    assert capsys.readouterr() == ("", "hello\n")
