"""Suites: several comparisons that are asked for together (`suite_file` says how they are written)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import defaults, spec
from ..errors import UsageError
from ..option import read
from ..option_types import CELLS, GRIDS, NAMES, PART, PATHS, SIZES, SPECS
from ..records.runs import Planned
from .exclusion import Exclusion
from .request import Comparison, check_request
from .session import MOST_UNASKED
from .suite_file import OF_COMPARISONS, OPTIONS, RATE, SuiteFile, Words, as_asked, file_of, read_suite

LISTS = (SPECS, GRIDS, NAMES, SIZES, CELLS, PATHS, PART)  # types of which one value is a list
EXCLUSIVE = (("steps", "epochs"), ("epochs", "steps"), ("tune", "lr"), ("lr", "tune"))


@dataclass(frozen=True)
class Suite:
    """Comparisons that are asked for together."""

    comparisons: tuple[Comparison, ...]
    words: Words  # of how they are done and printed, which is the same for all
    is_narrowed: bool = (
        False  # by what was typed beside it, so that an exclusion may have nothing left to leave out
    )

    @classmethod
    def of(cls, given: Mapping[str, object], asked: str | None) -> Suite:
        """From a suite's file and what was given beside it; without a file from that alone.

        Args:
            given: options by parameter, which hold in place of the file's.
            asked: a file, or the name of a built-in suite.

        Raises:
            UsageError: something is wrong with either; nothing was run.
        """
        if asked is None:
            return cls((_checked(given),), dict(given))
        for parameter, value in given.items():
            OPTIONS[parameter].verify(OPTIONS[parameter].value(value))
        typed = _typed(given)
        file = file_of(asked)
        written = read_suite(file)
        try:
            parts = list(_parts(written, typed))
            for name, value in parts[0].items():
                OPTIONS[name].verify(OPTIONS[name].value(value))
            left_out = written.excluded or ()
            asked_for = [replace(_checked(part), excluded=left_out) for part in parts]
            narrowed = not {"methods", "model", "task"}.isdisjoint(given)
            return cls(tuple(_with_one_baseline(asked_for)), parts[0], narrowed)
        except UsageError as error:
            raise UsageError(f"suite {str(file)!r}: {error}") from error

    def check_count(self, yes: bool) -> None:
        """Refuse what is more than anyone means, before it is planned; costs, latency and trials are not counted.

        Raises:
            UsageError: it is, and nobody said that it is meant.
        """
        if not yes and (count := sum(map(_count, self.comparisons))) > MOST_UNASKED:
            raise UsageError(f"this is {count:,} training runs or more; add --yes if that is what you want")

    def kept(self, planned: Sequence[Sequence[Planned]]) -> list[list[Planned]]:
        """The runs of each comparison that are not left out.

        Raises:
            UsageError: an exclusion leaves out nothing, or all of them everything.
        """
        meant = {number for items in planned for item in items for number in item.left_out}
        for number, one in enumerate(self.excluded):
            if number not in meant and not self.is_narrowed:
                raise UsageError(f"[[exclude]] of {one.said} leaves out nothing: no run is of it")
        left = [[item for item in items if not item.left_out] for items in planned]
        if self.excluded and all(
            item.baseline or item.run.kind == "latency" for items in left for item in items
        ):
            raise UsageError("[[exclude]] leaves no method to run")
        return left

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """The same in each comparison."""
        return self.comparisons[0].excluded


def _with_one_baseline(comparisons: list[Comparison]) -> list[Comparison]:
    """Where the reference has a rate of its own, comparisons at other rates do not add it a second time."""
    has = {_but_methods(one) for one in comparisons if one.baseline in one.methods}
    return [
        replace(one, adds_baseline=one.baseline in one.methods or _but_methods(one) not in has)
        for one in comparisons
    ]


def _but_methods(asked: Comparison) -> Comparison:
    return replace(asked, methods=(), learning_rate=None)


def _checked(words: Mapping[str, object]) -> Comparison:
    asked = read(Comparison, words)
    check_request(asked)
    return asked


def _typed(given: Mapping[str, object]) -> SuiteFile:
    """What was given beside a file, as a file of its own."""
    words = {name: value for name, value in given.items() if name not in ("methods", "model")}
    methods = OPTIONS["methods"].value(given["methods"]) if "methods" in given else None
    models = OPTIONS["model"].value(given["model"]) if "model" in given else None
    return SuiteFile(words, None if methods is None else as_asked(methods), models)


def _parts(written: SuiteFile, typed: SuiteFile) -> Iterator[Words]:
    """The options of each comparison: what has words of its own apart, and a part for each value of what takes one."""
    for one, other in EXCLUSIVE:  # what is typed holds, also over what can't stand beside it
        if one in typed.words:
            written = written.without(other)
    suite = typed.over(written)
    models = None if suite.models is None else dict.fromkeys(suite.models)
    alone = {name: words for name, words in suite.of_model.items() if words and name in (models or ())}
    together = None if models is None else [name for name in models if name not in alone]
    groups: list[Words] = [] if together == [] else [{} if together is None else {"model": together}]
    groups += [{**words, "model": [name]} for name, words in alone.items()]
    for group in groups:
        words = {**written.words, **group, **typed.words}
        if suite.methods is None or (typed.methods is None and "methods" in group):
            yield from _each(words)
            continue
        by_rate: dict[float | None, list[str]] = {}
        for name, rate in suite.methods:
            shared = RATE.parameter in typed.words or "tune" in typed.words
            by_rate.setdefault(None if shared else rate, []).append(name)
        for rate, names in by_rate.items():
            own = {} if rate is None else {RATE.parameter: rate}
            yield from _each({**words, "methods": names, **own})


def _each(words: Words) -> Iterator[Words]:
    axes: dict[str, list[object]] = {}
    for name, value in words.items():
        if not isinstance(value, list) or OPTIONS[name].type in LISTS:
            continue
        if name not in OF_COMPARISONS:
            raise UsageError(f"{name} is of the whole suite and takes one value, not {value!r}")
        if not value:
            raise UsageError(f"{name} has no value; leave it out for the default")
        axes[name] = value
    if (count := math.prod(map(len, axes.values()))) > spec.MOST_OF_A_GRID:
        raise UsageError(f"{', '.join(axes)} stand for {count:,} comparisons, above {spec.MOST_OF_A_GRID:,}")
    for chosen in itertools.product(*axes.values()):
        yield {**words, **dict(zip(axes, chosen, strict=True))}


def _count(asked: Comparison) -> int:
    methods = len(set(asked.methods)) + len(defaults.BASELINES) * asked.baselines
    tasks = sum(len(defaults.SUITES.get(task, (task,))) for task in asked.tasks)
    return methods * len(set(asked.models)) * tasks * len(asked.train_sizes) * asked.first_seeds
