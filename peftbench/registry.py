"""Names for methods, tasks and reports: one loader behind three doors.

1. A file in `methods/`, `tasks/` or `reports/`.
2. A file or folder named by `--plugins` or `PEFTBENCH_PLUGINS`; a file is loaded as `peftbench.methods.<stem>`, so
   that `from .lora import ...` works in it.
3. An entry point of another distribution, in the group `peftbench.methods`, `.tasks` or `.reports`.

The built-ins come through the first door like anybody's file. A name registered twice raises and names both places.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import UsageError, unknown

KINDS = ("method", "task", "report", "experiment")
_PACKAGES = {"experiment": "peftbench.reports.paper"}  # the others are peftbench.methods and so on


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    name: str
    kind: str
    target: Any  # the dataclass of a method or task, the function of a report
    declared: Any  # what its decorator declared: a `Declaration`, a version, a file suffix
    path: Path
    line: int
    also: Callable[[str], Mapping[str, str] | None] | None = None  # other names -> fields that they set

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    def source_sha256(self) -> str:
        """Of the file that defines it and of every sibling file it imports, so that a change makes a new key."""
        digest = hashlib.sha256()
        for path in sorted(_with_siblings(self.path), key=lambda p: p.name):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()


_entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_loaded: set[str] = set()
_loaded_plugins: dict[Path, str] = {}


def register(
    kind: str,
    name: str,
    target: Any,
    declared: Any,
    also: Callable[[str], Mapping[str, str] | None] | None = None,
) -> None:
    """Enter `target` under `name`, and under the other names that `also` knows.

    Raises:
        UsageError: the name is taken; both places are named.
    """
    code = inspect.unwrap(target)
    path = Path(inspect.getsourcefile(code) or "<unknown>").resolve()
    enter(Entry(name, kind, target, declared, path, inspect.getsourcelines(code)[1], also))


def enter(entry: Entry) -> None:
    """The same of an entry that is made already."""
    name, kind, also = entry.name, entry.kind, entry.also
    others = _entries[kind].values()
    taken = [other for other in others if other.name == name or (other.also and other.also(name) is not None)]
    taken += [other for other in others if also is not None and also(other.name) is not None]
    if taken:
        raise UsageError(
            f"{kind} {name!r} is registered twice: {taken[0].place} and {entry.place}; rename one"
        )
    _entries[kind][name] = entry


def load(kind: str) -> dict[str, Entry]:
    """Every registered entry of a kind, importing the files and entry points the first time."""
    if kind not in _loaded:
        _loaded.add(kind)
        try:
            package = importlib.import_module(_PACKAGES.get(kind, f"peftbench.{kind}s"))
        except ModuleNotFoundError as error:
            raise UsageError(
                f"peftbench.{kind}s is not installed; run `pip install -e .` in the checkout ({error})"
            ) from error
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith(("_", "test_")):
                importlib.import_module(f"{package.__name__}.{module.name}")
        for point in importlib.metadata.entry_points(group=f"peftbench.{kind}s"):
            try:
                point.load()
            except UsageError:
                raise
            except Exception as error:  # noqa: BLE001  one broken distribution must not stop the others
                warnings.warn(f"entry point {point.value!r} does not import: {_said(error)}", stacklevel=2)
    return _entries[kind]


def get(kind: str, name: str) -> Entry:
    """The entry of that name.

    Raises:
        UsageError: there is none; the nearest names are offered.
    """
    return find(kind, name)[0]


def find(kind: str, name: str) -> tuple[Entry, Mapping[str, str]]:
    """The entry of that name, and the fields that the name sets where it is another one than the entry's own.

    Raises:
        UsageError: there is none; the nearest names are offered.
    """
    entries = load(kind)
    if name in entries:
        return entries[name], {}
    for entry in entries.values():
        if entry.also is not None and (fields := entry.also(name)) is not None:
            return entry, fields
    file = Path(f"{name.replace('-', '_')}.py")
    if file.is_file():
        raise UsageError(f"unknown {kind} {name!r}, but {file} is in this folder: add --plugins {file}")
    raise unknown(kind, name, entries, f"peftbench list {kind}s; --plugins FILE for one of your own")


def answers(kind: str, name: str) -> bool:
    """Whether something answers to a name, its own or another one."""
    entries = load(kind)
    return name in entries or any(e.also is not None and e.also(name) is not None for e in entries.values())


def load_plugins(paths: Iterable[Path]) -> None:
    """Import plugin files, and the files of plugin folders (with or without methods/, tasks/, reports/ inside).

    Raises:
        UsageError: a path does not exist or its code does not import.
    """
    for path in (Path(p).expanduser().resolve() for p in paths):
        if path.is_dir():
            inner = [path / f"{kind}s" for kind in KINDS if (path / f"{kind}s").is_dir()]
            for folder in inner or [path]:
                kind = folder.name.removesuffix("s") if folder in inner else "method"
                for file in [*sorted(folder.glob("*.py")), *_declared(folder)]:
                    if not file.name.startswith(("_", "test_")):
                        _import_plugin(file, kind)
        elif path.is_file():
            _import_plugin(path, "method")
        else:
            raise UsageError(
                f"plugin {str(path)!r} does not exist; --plugins takes a Python or TOML file or a folder"
            )


def _declared(folder: Path) -> list[Path]:
    """The TOML files of a folder that declare a task: a pyproject.toml, for one, does not."""
    return [file for file in sorted(folder.glob("*.toml")) if file.is_file() and _is_task(file)]


def _is_task(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        return "kind" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # whether it was meant to be one: then what is wrong will be said
        return re.search(r"^kind\s*=", text, re.MULTILINE) is not None


def _import_plugin(path: Path, kind: str) -> None:
    name = f"peftbench.{kind}s.{path.stem}"
    if path in _loaded_plugins:
        return
    for loaded in KINDS:
        load(loaded)
    if path.suffix == ".toml":
        from .declared_tasks import declare

        declare(path)
        _loaded_plugins[path] = path.stem
        return
    if (other := sys.modules.get(name)) is not None:
        if Path(other.__file__ or "").resolve() == path:  # stands in methods/ and came through the first door
            return
        raise UsageError(f"plugin {str(path)!r} has the module name of {other.__file__}; rename the file")
    location = importlib.util.spec_from_file_location(name, path)
    if location is None or location.loader is None:
        raise UsageError(f"plugin {str(path)!r} is not a Python file")
    module: ModuleType = importlib.util.module_from_spec(location)
    sys.modules[name] = module
    try:
        location.loader.exec_module(module)
    except UsageError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"plugin {str(path)!r} does not import: {_said(error)}") from error
    _loaded_plugins[path] = name


def _said(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    if line is None and error.__traceback__ is not None:
        frames = inspect.getinnerframes(error.__traceback__, context=0)
        line = frames[-1].lineno if frames else None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def _with_siblings(path: Path) -> set[Path]:
    """`path` and the files that it imports with `from .name import ...`, and theirs."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in found or not current.is_file():
            continue
        found.add(current)
        if current.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(current.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                for name in names:
                    sibling = current.with_name(f"{name.split('.')[0]}.py")
                    builtin = sys.modules.get(f"peftbench.methods.{name.split('.')[0]}")
                    if not sibling.is_file() and builtin is not None and builtin.__file__:
                        sibling = Path(builtin.__file__).resolve()
                    waiting.append(sibling)
    return found
