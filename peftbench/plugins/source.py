"""The identity of a plugin's code: what it does, not how it is written down.

The key of a run holds it, so that a method or a task that was changed is run again. It is the SHA-256 of the syntax tree of the
file, of every sibling that it imports, and of all other code that it imports and that is no installed library. Comments, docstrings
and formatting are not part of a tree; imports of the core are left out, unless they give a name another one (`as`), so that moving a module of the core leaves results valid. What
the core itself computes is told by `RESULT_VERSION`. The text is our own and not `ast.dump`, which differs between releases
of Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CORE = "peftbench"
PLUGINS = (f"{CORE}.methods.", f"{CORE}.tasks.")
TYPES_ALONE = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
UNSAID = ("ctx", "kind", "type_comment", "type_ignores")  # fields of a tree that repeat what its shape says


def source_sha256(file: Path) -> str:
    """Of a file, Python or TOML, and of the siblings that it imports, and theirs."""
    digest = hashlib.sha256()
    for path in sorted(_with_siblings(file), key=lambda path: path.name):
        status = path.stat()
        text = _canonical(path, status.st_mtime_ns, status.st_size)
        digest.update(f"{path.name}\0{text}\0".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _canonical(file: Path, time_ns: int, size: int) -> str:
    """What a file says, read once as long as its time and size stay."""
    if file.suffix == ".toml":
        return json.dumps(tomllib.loads(file.read_text(encoding="utf-8")), sort_keys=True, default=str)
    return _text(_bare(ast.parse(file.read_bytes())))  # the file says itself how it is encoded


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings, and without imports that lead into the core or serve type checkers alone."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [statement for statement in block if not _is_silent(statement)])
    return tree


def _is_silent(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    if isinstance(statement, ast.Import | ast.ImportFrom) and any(alias.asname for alias in statement.names):
        return False  # what a name stands for is told nowhere else
    if isinstance(statement, ast.Import):
        return all(_is_core(alias.name) for alias in statement.names)
    if isinstance(statement, ast.ImportFrom):
        return not statement.level and (_is_core(statement.module or "") or statement.module == "__future__")
    return (
        isinstance(statement, ast.If) and not statement.orelse and ast.unparse(statement.test) in TYPES_ALONE
    )


def _is_core(module: str) -> bool:
    """Methods and tasks are not part of it, though they stand beside it."""
    return f"{module}.".startswith(f"{CORE}.") and not f"{module}.".startswith(PLUGINS)


def _text(node: Any) -> str:
    """A tree as one text, the same in every release of Python. What is empty is left out."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!r}"
    if isinstance(node, ast.JoinedStr):  # some releases leave an empty piece behind a nested format
        pieces = [
            piece for piece in node.values if not (isinstance(piece, ast.Constant) and piece.value == "")
        ]
        return f"JoinedStr({' '.join(map(_text, pieces))})"
    if isinstance(node, ast.AST):
        said = ((name, value) for name, value in ast.iter_fields(node) if name not in UNSAID)
        parts = (f"{name}={_text(value)}" for name, value in said if value is not None and value != [])
        return f"{type(node).__name__}({' '.join(parts)})"
    if isinstance(node, list):
        return f"[{' '.join(map(_text, node))}]"
    return repr(node)


def _with_siblings(file: Path) -> set[Path]:
    """`file` and the files of the user's own code and of the built-ins that it imports, and theirs."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in found or not current.is_file():
            continue
        found.add(current)
        if current.suffix == ".py":
            waiting += _siblings(current)
    return found


@functools.lru_cache(maxsize=256)
def _imports(file: Path, time_ns: int, size: int) -> list[ast.Import | ast.ImportFrom]:
    """What a file imports, read once as long as its time and size stay."""
    tree = ast.parse(file.read_bytes())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def beside(file: Path) -> dict[str, Path]:
    """What a file imports from its own folder, by name: other files, and packages by their `__init__.py`."""
    found: dict[str, Path] = {}
    for node in _imports_of(file):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for name in [node.module.partition(".")[0]] if node.module else [a.name for a in node.names]:
                place = file.with_name(name)
                files = (place.with_suffix(".py"), place / "__init__.py")
                if here := next(filter(Path.is_file, files), None):
                    found[name] = here.resolve()
    return found


def _imports_of(file: Path) -> list[ast.Import | ast.ImportFrom]:
    status = file.stat()
    return _imports(file, status.st_mtime_ns, status.st_size)


def _siblings(file: Path) -> Iterable[Path]:
    for node in _imports_of(file):
        if isinstance(node, ast.Import):
            yield from _loaded((alias.name for alias in node.names), file)
        elif not node.level and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from _loaded(names, file)
        else:
            home = file.parents[node.level - 1]
            inner = node.module.split(".") if node.module else []
            for name in [inner, *([*inner, alias.name] for alias in node.names)]:
                place = home.joinpath(*name)
                files = [place.with_suffix(".py"), place / "__init__.py"] if name else []
                if here := next(filter(Path.is_file, files), None):
                    yield here
                elif name and node.level == 1:
                    yield from _loaded([f"{CORE}.methods.{name[0]}"], file)


def _loaded(names: Iterable[str], file: Path) -> Iterable[Path]:
    """The files of the modules of these names that are methods or tasks of the program, or code of whoever wrote `file`."""
    for name in names:
        top = name.partition(".")[0]
        built_in = name.startswith(PLUGINS)
        if not built_in and (_is_core(name) or top in _libraries()):
            continue
        at = getattr(sys.modules.get(name), "__file__", None)
        if at is not None and (built_in or (at.endswith(".py") and _is_own(top, Path(at).resolve(), file))):
            yield Path(at).resolve()


def _is_own(top: str, path: Path, file: Path) -> bool:
    """Whether a module is of one package with the file that imports it, or is no installed library."""
    folders = getattr(sys.modules.get(top), "__path__", ())
    if any(Path(folder).resolve() in file.parents for folder in folders):
        return True
    return not any(place in path.parents for place in _installed())


@functools.cache
def _installed() -> frozenset[Path]:
    """The folders of Python's own modules and of installed ones: also those of a user, and of another environment that this one sees."""
    seen = (place for place in sys.path if Path(place).name in ("site-packages", "dist-packages"))
    return frozenset(Path(place).resolve() for place in (*sysconfig.get_paths().values(), *seen))


@functools.cache
def _libraries() -> frozenset[str]:
    """Python's own modules, and what the program itself needs, which somebody may have as a checkout: a record holds its version."""
    needed = importlib.metadata.requires(CORE) or ()
    return sys.stdlib_module_names | {re.split(r"[^\w-]", one)[0].replace("-", "_") for one in needed}
