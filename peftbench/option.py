"""Options, each declared once: the field of a frozen dataclass whose metadata says how it is written and checked.

The command line, `peftbench.run`, the worker's JSON and docs/options.md are made from these declarations.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import UsageError, unknown
from .option_types import OptionType

COMPARED, BUDGET, MEASUREMENT = "What to compare", "Budget", "Measurement"
EXECUTION, OUTPUT = "Execution", "Output"
PANELS = (COMPARED, BUDGET, MEASUREMENT, EXECUTION, OUTPUT)  # of the help, in its order

Check = Callable[[str, Any], None]  # (the option as it is written, its value); raises UsageError
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One option."""

    field: str  # of its dataclass
    name: str  # on the command line, without the dashes before it: train-size
    default: Any
    help: str
    panel: str
    type: OptionType
    choices: tuple[str, ...] = ()
    check: Check | None = None
    completes: str | None = (
        None  # what the shell offers: names of a "method", "task", "model", "report" or "suite"
    )

    @property
    def flag(self) -> str:
        """As the command line has it: --train-size."""
        return f"--{self.name}"

    @property
    def parameter(self) -> str:
        """As the Python door has it: train_size."""
        return self.name.replace("-", "_")

    @property
    def shown_default(self) -> Any:
        """As a user would write it; None: nothing."""
        return None if self.default is None else self.type.show(self.default)

    def value(self, given: Any) -> Any:
        """The field's value from text, or from what a Python program gives.

        Raises:
            UsageError: it is not of the option's type.
        """
        if given is None and self.default is not None:
            raise UsageError(f"{self.flag} needs a value; leave it out for {self.shown_default!r}")
        return None if given is None else self.type.parse(self.flag, given)

    def verify(self, value: Any) -> None:
        """Refuse a value that is out of range.

        Raises:
            UsageError: it is; the message says what would do.
        """
        if self.check is not None:
            self.check(self.flag, value)
        if self.choices and value is not None:
            one_of(self.flag, value, self.choices)


def option(
    default: Any,
    help: str,
    panel: str,
    type: OptionType,
    name: str | None = None,
    choices: Iterable[str] = (),
    check: Check | None = None,
    completes: str | None = None,
) -> Any:
    """Declare a field of a dataclass as an option; its name is the field's, unless another one is given."""
    declared = Option("", name or "", default, help, panel, type, tuple(choices), check, completes)
    return dataclasses.field(default=default, metadata={"option": declared})


def options_of(*declared: type[Any]) -> list[Option]:
    """The options that dataclasses declare, in the order of their fields."""
    return [
        dataclasses.replace(
            field.metadata["option"],
            field=field.name,
            name=field.metadata["option"].name or field.name.replace("_", "-"),
        )
        for cls in declared
        for field in dataclasses.fields(cls)
        if "option" in field.metadata
    ]


def option_of(cls: type[Any], field: str) -> Option:
    """The option that a field declares."""
    return next(one for one in options_of(cls) if one.field == field)


def in_panels(options: Iterable[Option]) -> Iterator[tuple[str, list[Option]]]:
    """Panels with their options."""
    options = list(options)
    for panel in PANELS:
        if inside := [one for one in options if one.panel == panel]:
            yield panel, inside


def read(cls: type[T], given: Mapping[str, Any]) -> T:
    """A dataclass of options from what was given by their parameters; what was not is at its default.

    Raises:
        UsageError: something is not of its option's type, or out of its range.
    """
    values = {one.field: one.value(given.get(one.parameter, one.default)) for one in options_of(cls)}
    made = cls(**values)
    verify(made)
    return made


def verify(asked: Any) -> None:
    """Each option's own check.

    Raises:
        UsageError: a value is out of range.
    """
    for one in options_of(type(asked)):
        one.verify(getattr(asked, one.field))


def refuse_unknown(given: Iterable[str], options: Iterable[Option]) -> None:
    """Refuse the name of no option, with the nearest that exist.

    Raises:
        UsageError: there is one.
    """
    by_field = {one.field: one.parameter for one in options}
    parameters = set(by_field.values())
    for name in given:
        if name in parameters:
            continue
        near = difflib.get_close_matches(name, set(by_field) - parameters, n=1, cutoff=0.8)
        if near:
            raise UsageError(
                f"unknown option {name!r}; did you mean {by_field[near[0]]!r}? (help(peftbench.run))"
            )
        raise unknown("option", name, parameters, "help(peftbench.run)")


def one_of(option: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of some words.

    Raises:
        UsageError: it is none of them.
    """
    if value not in choices:
        raise unknown(f"value of {option}:", str(value), choices, "one of " + ", ".join(choices))


def above_zero(option: str, value: Any) -> None:
    """A check of numbers."""
    if value is not None and not value > 0:
        raise UsageError(f"{option} must be above 0, not {value}")


def at_least(least: int, hint: str = "") -> Check:
    """A check of numbers, and what 0 or None does."""

    def check(option: str, value: Any) -> None:
        if value is not None and not value >= least:
            raise UsageError(f"{option} must be {least} or more, not {value}{hint}")

    return check


def up_to(most: int, check: Check = above_zero) -> Check:
    """A check of numbers that also refuses those that no machine would come to the end of."""

    def both(option: str, value: Any) -> None:
        check(option, value)
        if value is not None and value > most:
            raise UsageError(f"{option} must be {most:,} or less, not {value:,}")

    return both


def not_empty(said: str) -> Check:
    """A check of lists."""

    def check(option: str, value: Any) -> None:
        if not value:
            raise UsageError(f"{option} {said}")

    return check
