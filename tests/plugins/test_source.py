"""The identity of a plugin's code: another text of the same program is the same, another program is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.plugins.source import source_sha256

PROGRAM = '''"""What it does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench import Claims, method
from ._sibling import helped

if TYPE_CHECKING:
    from torch import Tensor

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
    ],
)
def test_another_program_is_another(old: str, new: str, tmp_path: Path) -> None:
    assert old in PROGRAM
    assert identity(tmp_path / "a") != identity(tmp_path / "b", PROGRAM.replace(old, new, 1))


def test_a_sibling_is_part_of_it(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    assert first == identity(tmp_path / "b", sibling='def helped(x):\n    """Said."""\n    return x  # x\n')
    assert first != identity(tmp_path / "c", sibling="def helped(x): return x + x\n")


def test_it_does_not_depend_on_the_release_of_python(tmp_path: Path) -> None:
    """As 3.11, 3.12 and 3.13 were seen to make it: the text that is hashed is our own."""
    assert identity(tmp_path / "a").startswith("6b30977a99ebbe95")


def test_of_a_toml_task_its_content_counts(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    file.write_text('name = "a"\nkind = "csv"\n')
    before = source_sha256(file)
    file.write_text('# said\nkind   = "csv"\nname = "a"\n')
    assert source_sha256(file) == before
    file.write_text('name = "a"\nkind = "jsonl"\n')
    assert source_sha256(file) != before
