"""The identity of a plugin's code: another text of the same program is the same, another program is another."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from peftbench.plugins import source
from peftbench.plugins.source import source_sha256

PROGRAM = '''"""What it does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench import Claims, method
from ._sibling import helped

if TYPE_CHECKING:
    from torch import Tensor

if not TYPE_CHECKING:
    SCALE = 2

SIZE = 8  # why eight


@dataclass(frozen=True)
class Thing:
    """A docstring."""

    rank: int = 4
    """What it is."""

    def inject(self, model):
        """Another one."""
        from peftbench.models.roles import sites

        return helped(sites(model, "query"), [None, 1.5, *()], **{"a": f"{SIZE:>{SIZE}} of {model!r}"})
'''


def identity(folder: Path, program: str = PROGRAM, sibling: str = "def helped(x): return x\n") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "thing.py").write_text(program)
    (folder / "_sibling.py").write_text(sibling)
    return source_sha256(folder / "thing.py")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # why eight", "  # because"),
        ('"""What it does."""', '"""Something else.\n\nIn detail.\n"""'),
        ('    """What it is."""\n', ""),
        ('        """Another one."""\n', ""),
        ("SIZE = 8", "SIZE = (\n    8\n)"),
        ("1.5", "15e-1"),
        ("from peftbench import Claims, method", "from peftbench.plugins.contracts import Claims\nimport peftbench"),
        ("from peftbench.models.roles import sites", "from peftbench import sites"),
        ("    from torch import Tensor", "    from torch import Tensor, nn"),
        ('"query"', "'query'"),
    ],
)  # fmt: skip
def test_another_text_of_the_same_program_is_the_same(old: str, new: str, tmp_path: Path) -> None:
    assert old in PROGRAM
    assert identity(tmp_path / "a") == identity(tmp_path / "b", PROGRAM.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SIZE = 8", "SIZE = 9"),
        ("SIZE = 8", "SIZE = 8.0"),
        ("rank: int = 4", "rank: float = 4"),
        ("None, 1.5", "False, 1.5"),
        ("[None, 1.5, *()]", "[1.5, *()]"),
        (":>{SIZE}", ":<{SIZE}"),
        ("!r", "!s"),
        ("return helped(", "return not helped("),
        ("frozen=True", "frozen=False"),
        ("helped(sites", "sites(helped"),
        ("SCALE = 2", "SCALE = 3"),  # it runs
        ("    from torch import Tensor\n", "    from torch import Tensor\nelse:\n    SCALE = 4\n"),
    ],
)
def test_another_program_is_another(old: str, new: str, tmp_path: Path) -> None:
    assert old in PROGRAM
    assert identity(tmp_path / "a") != identity(tmp_path / "b", PROGRAM.replace(old, new, 1))


def test_a_sibling_is_part_of_it(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    assert first == identity(tmp_path / "b", sibling='def helped(x):\n    """Said."""\n    return x  # x\n')
    assert first != identity(tmp_path / "c", sibling="def helped(x): return x + x\n")


def test_what_a_name_stands_for_is_part_of_it(tmp_path: Path) -> None:
    """The body says `start` either way."""
    program = "from peftbench.testing import {} as start\n\nstart()\n"
    made = [identity(tmp_path / name, program.format(name)) for name in ("tiny_run", "probe")]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    "line",
    ["from peftbench.methods.lora import LoRA", "import peftbench.methods.lora", "from .lora import LoRA"],
)
def test_a_built_in_that_it_stands_on_is_part_of_it(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("peftbench.methods.lora")
    stand_in.__file__ = str(tmp_path / "lora.py")
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    made = []
    for scale in (1, 2):
        (tmp_path / "lora.py").write_text(f"SCALE = {scale}\n")
        made.append(identity(tmp_path / "own", line + "\n"))
    assert made[0] != made[1]


def test_it_does_not_depend_on_the_release_of_python(tmp_path: Path) -> None:
    """As 3.11, 3.12 and 3.13 were seen to make it: the text that is hashed is our own."""
    assert identity(tmp_path / "a").startswith("d4446721466ce946")


def test_of_a_toml_task_its_content_counts(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    file.write_text('name = "a"\nkind = "csv"\n')
    before = source_sha256(file)
    file.write_text('# said\nkind   = "csv"\nname = "a"\n')
    assert source_sha256(file) == before
    file.write_text('name = "a"\nkind = "jsonl"\n')
    assert source_sha256(file) != before


def test_code_of_ones_own_is_part_of_it_wherever_it_is_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package on the path, by its whole name and by relative ones inside; of an installed library nothing is."""
    package = tmp_path / "my_layers_of_a_test"
    (package / "deep").mkdir(parents=True)
    for file, text in (
        ("__init__.py", ""),
        ("layers.py", "from .deep.inner import SCALE\n"),
        ("deep/__init__.py", ""),
        ("deep/inner.py", "SCALE = 1.0\n"),
    ):
        (package / file).write_text(text)
    plugin = tmp_path / "plugin.py"
    plugin.write_text("import numpy as np\nfrom my_layers_of_a_test import layers\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("my_layers_of_a_test.layers")
    before = source_sha256(plugin)
    (package / "deep" / "inner.py").write_text("SCALE = 100.0\n")
    assert source_sha256(plugin) != before
    assert source_sha256(plugin) == source_sha256(plugin)


def test_an_installed_library_is_not_whatever_environment_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own site-packages, or those of an environment that this one sees, are in no scheme of Python's: whether the library
    is loaded yet would change the hash."""
    library = tmp_path / "elsewhere" / "site-packages"
    library.mkdir(parents=True)
    (library / "a_library_elsewhere.py").write_text("A = 1\n")
    method = tmp_path / "method.py"
    method.write_text("def fit():\n    from a_library_elsewhere import A\n    return A\n")
    monkeypatch.syspath_prepend(str(library))
    source._installed.cache_clear()
    before = source_sha256(method)
    importlib.import_module("a_library_elsewhere")
    assert source_sha256(method) == before
    monkeypatch.undo()
    source._installed.cache_clear()
