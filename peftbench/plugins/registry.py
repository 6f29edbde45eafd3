"""Names for methods, tasks, reports and experiments: one registry behind three doors.

1. A file in `methods/`, `tasks/` or `reports/`.
2. A file or folder named by `--plugins` or `PEFTBENCH_PLUGINS`; a file is loaded as `peftbench.methods.<stem>`, so
   that `from .lora import ...` works in it.
3. An entry point of another distribution, in the group `peftbench.methods`, `.tasks` or `.reports`.

The built-ins come through the first door like anybody's file. A name registered twice raises and names both places.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError, unknown
from . import source

KINDS = ("method", "task", "report", "experiment")
PACKAGES = {  # where the files of the first door are
    "method": "peftbench.methods",
    "task": "peftbench.tasks",
    "report": "peftbench.reports",
    "experiment": "peftbench.reports.paper",
}


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    name: str
    kind: str
    target: Any  # the dataclass of a method or task, the function of a report
    declared: Any  # what its decorator declared: a `Declaration`, a version, a file suffix
    path: Path
    also: Callable[[str], Mapping[str, str] | None] | None = None  # other names -> fields that they set

    @property
    def place(self) -> str:
        """Its file and line. Looked for when it is asked: finding the line of a class means reading its file."""
        written = self.path.suffix == ".py"
        line = inspect.getsourcelines(inspect.unwrap(self.target))[1] if written else 1
        return f"{self.path}:{line}"

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    def source_sha256(self) -> str:
        """Of the code that defines it and of every sibling it imports, so that a change of what it does makes a new key."""
        return source.source_sha256(self.path)


_entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_loaded: set[str] = set()


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
    path = Path(inspect.getsourcefile(inspect.unwrap(target)) or "<unknown>").resolve()
    enter(Entry(name, kind, target, declared, path, also))


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
            package = importlib.import_module(PACKAGES[kind])
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{PACKAGES[kind]} is not installed; run `pip install -e .` in the checkout ({error})"
            ) from error
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith(("_", "test_")):
                importlib.import_module(f"{package.__name__}.{module.name}")
        for point in importlib.metadata.entry_points(group=f"peftbench.{kind}s"):
            try:
                with contained():
                    point.load()
            except UsageError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001  one broken distribution must not stop the others
                warnings.warn(f"entry point {point.value!r} does not import: {said_of(error)}", stacklevel=2)
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
    if Path(name).is_file():
        how = {
            "method": f"--plugins {name} loads those that it holds",
            "task": f"a file of your own is a field of one, as in csv:path={name}",
        }
        raise UsageError(f"{name!r} is a file, and no {kind}; {how.get(kind, f'peftbench list {kind}s')}")
    raise unknown(kind, name, entries, f"peftbench list {kind}s; --plugins FILE for one of your own")


def answers(kind: str, name: str) -> bool:
    """Whether something answers to a name, its own or another one."""
    entries = load(kind)
    return name in entries or any(e.also is not None and e.also(name) is not None for e in entries.values())


@contextmanager
def contained() -> Iterator[None]:
    """For the block, code of others that prints does so on stderr, and what ends a process at once raises SystemExit.

    stdout belongs to what was asked for, and a status to the program.
    """
    leave = os._exit
    os._exit = sys.exit  # type: ignore[assignment]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os._exit = leave


def said_of(error: BaseException) -> str:
    """Of what a plugin raised, in one line."""
    line = getattr(error, "lineno", None)
    if line is None and error.__traceback__ is not None:
        frames = inspect.getinnerframes(error.__traceback__, context=0)
        line = frames[-1].lineno if frames else None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")
