"""The file of a suite: words of the command line in TOML, and the suite that it extends.

extends = "starter"             # another suite; what stands here replaces what stands there
methods = "adapter,prefix"      # any option of `peftbench run`, by its name
budget = ["quick", "standard"]  # several values of what takes one: a comparison for each

[[method]]                      # beside `methods`; a field with several values is a grid
name = "lora"
rank = [4, 16, 64]
targets = ["query+value", "all-linear"]
exclude = [{ rank = 64, targets = "all-linear" }]
lr = 1e-3                       # of this method alone

[[model]]                       # in place of `model`, a table for each: other words for this model alone
name = "smollm2-135m-instruct-q4"
batch-size = 4

[[exclude]]                     # what is left out, by method, model and task
method = "full"
model = "smollm2-135m-instruct-q4"
"""

from __future__ import annotations

import itertools
import math
import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .. import spec
from ..errors import UsageError, unknown
from ..option import options_of
from .exclusion import Exclusion
from .request import Comparison
from .session import RUN_OPTIONS, Printed

HERE = Path(__file__).parents[1] / "suites"  # those that come with the program
OF_COMPARISONS = {one.parameter: one for one in options_of(Comparison)}
OPTIONS = {one.parameter: one for one in [*RUN_OPTIONS, *options_of(Printed)]}
WORDS = {name: one for name, one in OPTIONS.items() if name not in ("suite", "yes", "dry_run")}  # of a file
RATE = OF_COMPARISONS["lr"]
EXCLUDED_BY = tuple(one.name for one in fields(Exclusion))
TABLES = {"method": "[[method]]", "model": "[[model]]", "exclude": "[[exclude]]"}
HINT = "`peftbench new suite NAME` writes one with comments"
Words = dict[str, Any]  # options by parameter
Methods = tuple[tuple[str, float | None], ...]  # SPECs, some with a learning rate of their own


@dataclass(frozen=True)
class SuiteFile:
    """What a file says, with what it extends; None: nothing was said of it."""

    words: Words = field(default_factory=dict)
    methods: Methods | None = None
    models: tuple[str, ...] | None = None
    of_model: dict[str, Words] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] | None = None

    def over(self, other: SuiteFile) -> SuiteFile:
        """What this one says, and where it says nothing the other one."""
        return SuiteFile(
            {**other.words, **self.words},
            other.methods if self.methods is None else self.methods,
            other.models if self.models is None else self.models,
            {**other.of_model, **self.of_model},
            other.excluded if self.excluded is None else self.excluded,
        )

    def without(self, word: str) -> SuiteFile:
        """The same, which says nothing of a word."""
        of_model = {
            name: {w: v for w, v in words.items() if w != word} for name, words in self.of_model.items()
        }
        return replace(self, words={w: v for w, v in self.words.items() if w != word}, of_model=of_model)


def built_in() -> dict[str, Path]:
    """The suites that come with the program, by name."""
    return {file.stem: file for file in sorted(HERE.glob("*.toml"))}


def summary(file: Path) -> str:
    """The comment that a suite begins with."""
    return file.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()


def file_of(asked: str, beside: Path | None = None) -> Path:
    """The file of a suite.

    Args:
        asked: a path, or the name of a built-in suite.
        beside: the folder that a path is seen from; None: the current one.

    Raises:
        UsageError: there is none.
    """
    path = (beside or Path()) / Path(asked).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"suite {asked!r} is a folder; name its TOML file")
    if asked in built_in():
        return built_in()[asked]
    if path.suffix == ".toml" or os.sep in asked:
        raise UsageError(f"there is no suite {asked!r}; {HINT}")
    raise unknown("suite", asked, built_in(), "peftbench list suites; methods stand behind --methods, as in --methods lora,adapter")  # fmt: skip


def read_suite(file: Path, through: Sequence[Path] = ()) -> SuiteFile:
    """What a file says, with what it extends.

    Args:
        through: the files that extend it.

    Raises:
        UsageError: it is no TOML, has a word that is no option, or extends itself; which file it is stands in front.
    """
    where = f"suite {str(file)!r}"
    if file.resolve() in through:
        raise UsageError(f"{where} extends itself")
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise UsageError(f"{where} is no TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"{where} can't be read: {error.strerror}") from error
    try:
        extended = said.pop("extends", None)
        if extended is not None and not isinstance(extended, str):
            raise UsageError(f"extends names one suite, not {extended!r}")
        own = _of_file(said)
        # A path is beside the file that names it: the two travel together.
        other = None if extended is None else file_of(extended, file.parent)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return own if other is None else own.over(read_suite(other, [*through, file.resolve()]))


def _of_file(said: Words) -> SuiteFile:
    tables = {name: [*map(dict, said.pop(name))] for name in TABLES if _has_tables(name, said)}
    words = _words(said)
    names, models = _texts(words, "methods"), _texts(words, "model")
    methods = None if names is None else as_asked(names)
    if "method" in tables:
        methods = (*(methods or ()), *(one for table in tables["method"] for one in _grid(table)))
    of_model: dict[str, Words] = {}
    for table in tables.get("model", ()):
        name = _name_of(table, "model")
        if name in of_model:
            raise UsageError(f"[[model]] is there twice with the name {name!r}")
        of_model[name] = _words(table, OF_COMPARISONS)
        if "model" in of_model[name]:
            raise UsageError(f"[[model]] {name!r} has words for this model, and model = is none of them")
        models = (*(models or ()), name)
    excluded = tuple(map(_excluded, tables["exclude"])) if "exclude" in tables else None
    return SuiteFile(words, methods, models, of_model, excluded)


def as_asked(names: Iterable[str]) -> Methods:
    """SPECs at the rate that holds for all."""
    return tuple((name, None) for name in names)


def _has_tables(name: str, said: Words) -> bool:
    """Whether a key holds tables: `model` may also be a word."""
    if name not in said or (name in OPTIONS and not _is_tables(said[name])):
        return False
    if not _is_tables(said[name]):
        others = "; names alone stand in methods = ..." if name == "method" else ""
        raise UsageError(f"{name} must be tables, each under {TABLES[name]}{others}")
    return True


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _mark_of(word: str) -> str | None:
    """What tables of this word stand under, be it written for one or for several."""
    return TABLES.get(word) or TABLES.get(word.removesuffix("s"))


def _words(said: Words, known: Any = None) -> Words:
    """Options by parameter.

    Raises:
        UsageError: one is none.
    """
    known = WORDS if known is None else known
    found: Words = {}
    for name, value in said.items():
        parameter = name.replace("-", "_")
        if parameter not in known:
            if parameter in OPTIONS and parameter not in WORDS:
                raise UsageError(f"{name} is typed beside the suite, as in --{name.replace('_', '-')}")
            if parameter.removeprefix("no_") in known:
                raise UsageError(f"{name} is no word; write {name[3:]} = false")
            if (mark := _mark_of(parameter)) is not None:
                raise UsageError(f"{name} must be tables, each under {mark}")
            if known is OF_COMPARISONS and parameter in WORDS:
                raise UsageError(f"{name} is of the whole suite, not of one model; put it above the tables")
            names = [
                *(one.replace("_", "-") for one in known),
                *((*TABLES, "extends") if known is WORDS else ()),
            ]
            raise unknown("word", name, names, HINT)
        if parameter in found:
            raise UsageError(f"{name} is there twice, with a dash and with an underscore")
        if isinstance(value, dict) or _is_tables(value):
            mark = _mark_of(parameter)
            under = "" if mark is None else f"; tables stand under {mark}"
            raise UsageError(f"{name} must be a value, not a table{under}")
        found[parameter] = value
    return found


def _texts(words: Words, parameter: str) -> tuple[str, ...] | None:
    """Take a list of names, or of SPECs, out of some words."""
    if parameter not in words:
        return None
    one = OPTIONS[parameter]
    value = one.value(words.pop(parameter))
    one.verify(value)
    return tuple(value)


def _name_of(table: Words, kind: str) -> str:
    name = table.pop("name", None)
    if isinstance(name, list):
        raise UsageError(f"[[{kind}]] has one name, not {name!r}; write a table for each")
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f'[[{kind}]] needs a name; write name = "..." under it')
    return name.strip()


def _grid(table: Words) -> list[tuple[str, float | None]]:
    """The SPECs of a method's table, one for each combination of its fields' values that is not left out, at each of its rates."""
    name = _name_of(table, "method")
    where = f"[[method]] {name!r}"
    excluded, rates = table.pop("exclude", []), table.pop(RATE.parameter, None)
    learning_rates = [RATE.value(rate) for rate in (rates if isinstance(rates, list) else [rates])]
    for rate in learning_rates:
        RATE.verify(rate)
    if not isinstance(excluded, list) or not all(isinstance(one, dict) and one for one in excluded):
        raise UsageError(f'{where}: exclude is a list of tables, as in exclude = [{{ rank = 64, targets = "all-linear" }}]')  # fmt: skip
    axes = {key: value if isinstance(value, list) else [value] for key, value in table.items()}
    for key, values in axes.items():
        if not values:
            raise UsageError(f"{where}: {key} has no value; leave it out for the default")
    if (count := math.prod(map(len, axes.values()))) > spec.MOST_OF_A_GRID:
        raise UsageError(
            f"{where} stands for {count:,} settings, above {spec.MOST_OF_A_GRID:,}; leave some out"
        )
    texts = {key: [_text(value, f"{where}: {key}") for value in values] for key, values in axes.items()}
    cells = [dict(zip(texts, chosen, strict=True)) for chosen in itertools.product(*texts.values())]
    for one in excluded:
        wanted = {key: _text(value, f"{where}: exclude: {key}") for key, value in one.items()}
        left = [cell for cell in cells if not wanted.items() <= cell.items()]
        if len(left) == len(cells):
            raise UsageError(f"{where}: exclude {one} leaves out nothing; none of its settings is so")
        cells = left
    if not cells:
        raise UsageError(f"{where}: exclude leaves nothing of it")
    named = spec.parse(name)  # which may set fields, too
    specs = [str(spec.Spec(named.name, (*named.fields, *cell.items()))) for cell in cells]
    return [(one, rate) for one in specs for rate in learning_rates]


def _text(value: Any, where: str) -> str:
    """A value as a SPEC has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise UsageError(f"{where} must be a number, a text, true or false, not {value!r}")


def _excluded(table: Words) -> Exclusion:
    for key, value in table.items():
        if key not in EXCLUDED_BY:
            raise unknown("key of [[exclude]]:", key, EXCLUDED_BY, "method, model and task")
        if not isinstance(value, str):
            raise UsageError(f"[[exclude]]: {key} must be text, not {value!r}; write a table for each")
    if not table:
        raise UsageError("[[exclude]] is empty; say which method, model or task")
    return Exclusion(**table)
