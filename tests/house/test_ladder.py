"""The architecture: each package imports only from the ones below it, and the program's side never waits for torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "peftbench"
# From the ground up. A rung imports from those before it; `root` is what everything may use.
LADDER = (
    "root", "stats", "records", "engine", "data", "cluster", "objectives", "tables", "render", "comparison", "experiments",
    "models", "measure", "plugins", "execution", "planning", "inspection", "analysis", "cli", "top",
)  # fmt: skip
TOP = (
    "__init__",
    "__main__",
    "api",
    "jobs",
    "testing",
    "worker",
)  # modules that stand above all packages
WITHOUT_TORCH = LADDER[: LADDER.index("models")] + ("cli",)
HEAVY = {"torch", "transformers", "accelerate", "datasets", "safetensors", "peft", "sklearn"}
EXCEPTIONS: set[tuple[str, str]] = set()  # (module, module) against the ladder; it may only shrink


def modules() -> dict[str, ast.Module]:
    """By dotted name inside the core."""
    files = {file.relative_to(CORE).with_suffix(""): file for file in CORE.rglob("*.py")}
    return {".".join(path.parts): ast.parse(file.read_text(encoding="utf-8")) for path, file in files.items()}


def rung_of(module: str) -> str:
    package, _, inner = module.partition(".")
    if inner:
        return package
    return "top" if module in TOP else "root"


def imports_of(module: str, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, ast.stmt]]:
    """The core's modules that one imports, wherever it does: at its top, in a function, for types alone."""
    here = module.split(".")
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom | ast.Import):
            continue
        if isinstance(node, ast.Import):
            named = [alias.name.split(".")[1:] for alias in node.names if alias.name.startswith("peftbench.")]
            wanted = [".".join(parts) for parts in named]
        else:
            if node.level:
                base = here[: len(here) - node.level]
            elif (node.module or "").split(".")[0] == "peftbench":
                base = []
            else:
                continue
            inner = (node.module or "").split(".") if node.level else (node.module or "").split(".")[1:]
            place = ".".join([*base, *(part for part in inner if part)])
            wanted = [f"{place}.{alias.name}".strip(".") for alias in node.names]
            wanted = [name if name in known else place for name in wanted]
        yield from ((name if name in known else f"{name}.__init__".strip("."), node) for name in wanted)


def test_every_import_goes_down_the_ladder() -> None:
    trees = modules()
    against = set()
    for module, tree in trees.items():
        mine = LADDER.index(rung_of(module))
        for other, _ in imports_of(module, tree, set(trees)):
            assert other in trees, f"{module} imports {other}, which is no module"
            if LADDER.index(rung_of(other)) > mine:
                against.add((module, other))
    assert against == EXCEPTIONS


def test_every_package_stands_on_the_ladder_and_says_what_it_is() -> None:
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert packages == set(LADDER) - {"root", "top"}
    for package in packages:
        tree = ast.parse((CORE / package / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), package


def test_the_programs_side_imports_nothing_heavy_at_its_top() -> None:
    """The command line answers at once: torch and its like are imported where they are used, on the worker's side."""
    for module, tree in modules().items():
        if rung_of(module) not in WITHOUT_TORCH:
            continue
        for node in tree.body:
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {(node.module or "").split(".")[0]}
            else:
                continue
            assert not found & HEAVY, f"{module}: {ast.unparse(node)}"


def test_no_module_is_in_a_circle() -> None:
    """Imports at the top of a file, followed to their end, never come back."""
    trees = modules()
    graph: dict[str, set[str]] = {}
    for module, tree in trees.items():
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        graph[module] = {other for other, _ in imports_of(module, top, set(trees))} - {"__init__", module}
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph[module]:
                follow(other, (*path, module))
            done.add(module)

    for module in graph:
        follow(module, ())
