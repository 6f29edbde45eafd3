"""Plugin files: Python files and folders, and TOML files that declare a task."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..errors import UsageError
from ..folders import expanded
from .fence import Code, fenced
from .registry import KINDS, PACKAGES, contained, load, said_of
from .source import beside

_loaded_plugins: dict[Path, str] = {}
_disturbances: dict[
    Path, list[str]
] = {}  # what files changed of the process when they were imported; put back since


def disturbances_of(file: Path) -> list[str]:
    """What a plugin file changed of the process that every run shares, while it was imported."""
    return _disturbances.get(file, [])


def load_plugins(paths: Iterable[Path]) -> None:
    """Import plugin files, and the files of plugin folders (with or without methods/, tasks/, reports/ inside).

    Raises:
        UsageError: a path does not exist or its code does not import.
    """
    for path in (expanded(p, "plugin").resolve() for p in paths):
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


def _package_of(folder: Path, kind: str) -> str:
    """The package that a plugin file is loaded into: the built-ins' own, so that it may import them as siblings.

    Experiments of another collection have names like those of the built-ins, so each folder of them is a package of its own.
    """
    if kind != "experiment":
        return PACKAGES[kind]
    name = f"peftbench_experiments_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return name


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
    name = f"{_package_of(path.parent, kind)}.{path.stem}"
    if path in _loaded_plugins:
        return
    for loaded in KINDS:
        load(loaded)
    if path.suffix == ".toml":
        from .toml_tasks import declare

        declare(path)
        _loaded_plugins[path] = path.stem
        return
    if (other := sys.modules.get(name)) is not None:
        if Path(other.__file__ or "").resolve() == path:  # stands in methods/ and came through the first door
            return
        raise UsageError(f"plugin {str(path)!r} has the module name of {other.__file__}; rename the file")
    changed, code = _disturbances.setdefault(path, []), Code()
    try:
        with fenced(changed, "on import"), contained():
            _execute(name, path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"plugin {str(path)!r} does not import: {said_of(error)}") from error
    finally:  # other methods' runs load it too
        changed += [f"{name} on import" for name in code.restore()]
    _loaded_plugins[path] = name


def _execute(name: str, path: Path) -> None:
    """Import a file under this name, after what it imports from beside it (`from ._parts import x`), which no package's folder holds.

    Raises:
        UsageError: it is no Python file, or what stands beside it has the name of another module.
    """
    inside = [str(path.parent)] if path.name == "__init__.py" else None
    location = importlib.util.spec_from_file_location(name, path, submodule_search_locations=inside)
    if location is None or location.loader is None:
        raise UsageError(f"plugin {str(path)!r} is not a Python file")
    module: ModuleType = importlib.util.module_from_spec(location)
    sys.modules[name] = module
    try:
        if inside is None:
            package = name.rpartition(".")[0]
            for stem, file in beside(path).items():
                _import_beside(f"{package}.{stem}", file, path)
        location.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _import_beside(name: str, file: Path, importer: Path) -> None:
    known = sys.modules.get(name) or importlib.util.find_spec(name)
    place = getattr(known, "__file__", None) or getattr(known, "origin", None)
    if place is None:
        _execute(name, file)
    elif Path(place).resolve() != file and Path(place).read_bytes() != file.read_bytes():
        raise UsageError(
            f"plugin {str(importer)!r} imports {name.rpartition('.')[2]!r}, which stands beside it and in {str(Path(place).parent)!r} "
            "too: rename the one beside it"
        )
