"""`peftbench new method NAME`: a working method in one file and its test, to be edited; `peftbench new suite NAME`: a suite with comments."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from ..errors import UsageError
from ..plugins import loader, registry

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
KINDS = ("method", "suite")
TEMPLATES = {"$stem.py": "method.py.txt", "test_$stem.py": "test_method.py.txt"}


@dataclass(frozen=True)
class Names:
    """What one name is in each place."""

    name: str  # in the registry: fast-lora
    stem: str  # of the file: fast_lora
    cls: str  # of the dataclass: FastLora

    @classmethod
    def of(cls, name: str) -> Names:
        return cls(name, name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-")))


def new(kind: str | None, name: str | None, folder: Path, plugins: Iterable[Path]) -> str:
    """Write a method and its test, or a suite, into a folder, and say what to do with them.

    Raises:
        UsageError: it is neither that is asked for, the name is malformed or taken, or a file is in the way.
    """
    names = _checked(kind, name)
    if kind == "suite":
        file = folder / f"{names.name}.toml"
        _write({file: _filled("suite.toml.txt", names)}, folder)
        tried = shlex.quote(str(file))
        return f"{file}: a suite with comments\n\npeftbench run {tried} --dry-run  # says what it comes to\npeftbench run {tried}\n"
    _refuse_taken(names, plugins)
    files = {
        folder / Template(file).substitute(stem=names.stem): _filled(template, names)
        for file, template in TEMPLATES.items()
    }
    _refuse_hidden(names)
    _write(files, folder)
    return _what_next(names.name, *files)


def _write(files: Mapping[Path, str], folder: Path) -> None:
    for file in files:
        if file.exists():
            raise UsageError(f"{str(file)!r} exists and is left as it is; choose another name or --to DIR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        raise UsageError(f"--to {str(folder)!r} can't be written: {error.strerror}") from error


def _checked(kind: str | None, name: str | None) -> Names:
    if kind not in KINDS or name is None:
        asked = name or (kind if kind not in KINDS else None) or "NAME"
        said = f"{kind!r} is no kind of thing that it makes: " if kind not in (None, *KINDS) else ""
        one = kind if kind in KINDS else "method"
        raise UsageError(f"{said}write `peftbench new {one} {asked}`")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a {kind}; use lower case, digits and dashes, as in fast-lora"
        )
    if kind == "method" and name.startswith("test-"):
        raise UsageError(f"{name!r} would be taken for a test; begin the name with another word")
    return Names.of(name)


def _refuse_taken(names: Names, plugins: Iterable[Path]) -> None:
    registry.load("method")
    loader.load_plugins(plugins)
    try:
        place = registry.get("method", names.name).place
    except UsageError:
        module = sys.modules.get(f"peftbench.methods.{names.stem}")
        if module is None:
            return
        place = str(module.__file__)
    raise UsageError(f"the name {names.name!r} is taken by {place}; choose another one")


def _refuse_hidden(names: Names) -> None:
    """A file named as a module hides it from every program that is started beside it."""
    if keyword.iskeyword(names.stem) or keyword.iskeyword(names.cls):
        raise UsageError(f"{names.name!r} is a word of Python; choose another name")
    if importlib.util.find_spec(names.stem) is not None:
        raise UsageError(f"{names.stem}.py would hide the Python module of that name; choose another name")


def _filled(template: str, names: Names) -> str:
    text = resources.files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    return Template(text).substitute(name=names.name, cls=names.cls, file=f"{names.stem}.py")


def _what_next(name: str, method: Path, test: Path) -> str:
    file, tested = shlex.quote(str(method)), shlex.quote(str(test))
    steps = {
        f"peftbench check {file}": "checks what it claims, in seconds",
        f"python -m pytest {tested}": "the same checks as a test, and the parameter count",
        f"peftbench run --methods lora,{name} --plugins {file}": "its row in the table",
    }
    width = max(len(command) for command in steps)
    lines = [f"{method}: a method that works, with six places to EDIT", f"{test}: its test", ""]
    return "\n".join([*lines, *(f"{command:<{width}}  # {why}" for command, why in steps.items())]) + "\n"
