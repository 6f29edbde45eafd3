"""What the shell offers for an option, without the seconds that importing methods and tasks takes: read from their files."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

from .. import defaults
from ..comparison.suite_file import built_in
from ..option import Option


def completer(option: Option) -> Callable[[str], list[str]] | None:
    """What goes on after the last comma of what is typed; None: the shell offers files."""
    if not option.choices and option.completes is None:
        return None

    def complete(incomplete: str) -> list[str]:
        names = option.choices or names_of(option.completes or "")
        before, comma, _ = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names]

    return complete


def names_of(kind: str) -> list[str]:
    """The built-in names of a "method", "task", "report", "model" or "suite"."""
    if kind == "model":
        return _starters()
    if kind == "suite":
        return list(built_in())
    package = importlib.util.find_spec(f"peftbench.{kind}s")
    folders = [] if package is None else package.submodule_search_locations or []
    registered = re.compile(rf'^@{kind}\(\s*"([^"]+)"', re.MULTILINE)
    files = [file for folder in folders for file in sorted(Path(folder).glob("[!_]*.py"))]
    names = [name for file in files for name in registered.findall(file.read_text(encoding="utf-8"))]
    return [*names, *(defaults.SUITES if kind == "task" else ())]


def _starters() -> list[str]:
    """The keys of the table of starter models, whose module waits for torch."""
    tree = ast.parse((Path(__file__).parents[1] / "models" / "starters.py").read_text(encoding="utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "STARTERS"
    ]
    return [
        key.value
        for table in tables
        if isinstance(table, ast.Dict)
        for key in table.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
