"""SPEC strings: `NAME(:FIELD=VALUE)*`, as in `lora:rank=4:targets=query+value`.

A value that holds `:` or `,` stands in single quotes: `csv:path='C:/a,b.csv'`; an apostrophe in there is written twice. The same words serve methods and
tasks; a SPEC names a registered frozen dataclass and some of its fields. A field with the metadata `rest` takes, as
pairs of text, all the settings that are no fields: a bridge to another library leaves them to that library. One with the
metadata `file` names a file or a folder.

As a user types methods, `lora:rank=4|16|64` stands for three of them, and several such fields for every combination; a `|` inside
brackets or single quotes is a part of its value.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import types
import typing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .errors import UsageError, unknown
from .folders import normal_path


@dataclass(frozen=True)
class Spec:
    """A name and the fields that were set, as text."""

    name: str
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{field}={_quoted(value)}" for field, value in self.fields)])


def _quoted(value: str) -> str:
    if any(mark in value for mark in ":,") or value != value.strip() or value.startswith("'"):
        return "'" + value.replace("'", "''") + "'"
    return value


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    return value


def _cut(text: str, mark: str) -> list[str]:
    """Split at `mark`, but not inside single quotes; they open behind an equals sign or a bar, elsewhere they are apostrophes."""
    parts, inside, before, escaped = [""], False, "", False
    for char, after in pairwise(text + " "):
        if escaped:
            escaped = False
        elif char == "'" and inside and after == "'":
            escaped = True
        elif char == "'":
            inside = not inside and before in ("=", "|")
        if char == mark and not inside:
            parts.append("")
        else:
            parts[-1] += char
        before = char if char.strip() else before
    if inside:
        raise UsageError(
            f"{text!r} opens a single quote that is never closed; inside quotes an apostrophe is written twice: 'it''s.csv'"
        )
    return parts


def parse(text: str) -> Spec:
    """Read one SPEC.

    Raises:
        UsageError: the text is no SPEC.
    """
    name, *settings = (part.strip() for part in _cut(text, ":"))
    if not name:
        raise UsageError(f"{text!r} names nothing; write NAME or NAME:FIELD=VALUE, as in lora:rank=4")
    if "=" in name:  # a comma begins the next SPEC
        raise UsageError(
            f"{text!r} names nothing before its field; fields stand behind colons, as in lora:rank=4:dropout=0.1, and a value with a comma in single quotes"
        )
    fields: dict[str, str] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals or not field.strip():
            raise UsageError(f"{setting!r} in {text!r} is not FIELD=VALUE; write it as in lora:rank=4")
        if field.strip() in fields:
            raise UsageError(f"{text!r} sets {field.strip()!r} twice")
        fields[field.strip()] = _unquoted(value)
    return Spec(name, tuple(fields.items()))


MOST_OF_A_GRID = 10_000  # SPECs: above it is a slip of the finger


def parse_list(text: str) -> list[Spec]:
    """Read `SPEC,SPEC,...`, ignoring empty entries.

    Raises:
        UsageError: one is no SPEC.
    """
    return [parse(part) for part in _cut(text, ",") if part.strip()]


def grids(text: str) -> list[Spec]:
    """The same of what a user typed, where a text may stand for several.

    Raises:
        UsageError: one is no SPEC, or stands for too many.
    """
    return [one for part in _cut(text, ",") if part.strip() for one in grid(part)]


def grid(text: str) -> list[Spec]:
    """Every SPEC that a text stands for: `lora:rank=4|16` is two. In the order of the text, the last field first.

    Raises:
        UsageError: they are no SPECs, or too many.
    """
    name, *settings = _cut(text, ":")
    alternatives = []
    for setting in settings:
        first, *others = _alternatives(setting)
        field = first.partition("=")[0]
        if others and not all(value.strip() for value in (first.partition("=")[2], *others)):
            raise UsageError(f"{setting.strip()!r} has an empty alternative; write it as in rank=4|16|64")
        alternatives.append([first, *(f"{field}={value}" for value in others)])
    if (count := math.prod(map(len, alternatives))) > MOST_OF_A_GRID:
        raise UsageError(
            f"{text.strip()!r} stands for {count:,} settings, above {MOST_OF_A_GRID:,}; leave some out"
        )
    return [parse(":".join([name, *chosen])) for chosen in itertools.product(*alternatives)]


def _alternatives(setting: str) -> list[str]:
    """Its parts between bars, but not inside brackets, where a bar is one of a regular expression."""
    found: list[str] = []
    for part in _cut(setting, "|"):
        opened = found and sum(found[-1].count(mark) for mark in "([{") > sum(
            found[-1].count(mark) for mark in ")]}"
        )
        if opened:
            found[-1] += f"|{part}"
        else:
            found.append(part)
    return found


def build(spec: Spec, cls: type[Any], kind: str) -> Any:
    """An instance of the registered dataclass `cls` with the fields that `spec` sets.

    Raises:
        UsageError: a field does not exist, does not parse, or the class refuses its value.
    """
    known = {f.name: f for f in dataclasses.fields(cls) if f.init and not f.metadata.get("rest")}
    rest = [f.name for f in dataclasses.fields(cls) if f.metadata.get("rest")]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field, text in spec.fields:
        if field not in known and rest:
            values[rest[0]] = (*values.get(rest[0], ()), (field, text))
            continue
        if field not in known:
            raise unknown(f"field of {kind} {spec.name!r}:", field, known, f"peftbench list {kind}s")
        values[field] = _convert(text, hints[field], f"{kind} {spec.name!r}: {field}")
    missing = [
        name
        for name, f in known.items()
        if f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and name not in values
    ]
    if missing:
        example = ":".join([spec.name, *(f"{name}=..." for name in missing)])
        raise UsageError(f"{kind} {spec.name!r} needs {', '.join(missing)}; write {example}")
    try:
        return cls(**values)
    except ValueError as error:
        raise UsageError(f"{kind} {spec}: {error}") from error


def canonical_spec(name: str, instance: Any) -> str:
    """The SPEC of `instance`: its name and every field that differs from the default, in field order."""
    changed = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if field.metadata.get("rest"):
            changed += value
            continue
        if field.metadata.get("file") and value:
            value = normal_path(value)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.init and value != default:
            changed.append((field.name, str(value)))
    return str(Spec(name, tuple(changed)))


def settings(instance: Any) -> dict[str, Any]:
    """Every field of `instance`, for the record and its key."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance) if field.init}


def _convert(text: str, kind: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        arms = typing.get_args(kind)
        if type(None) in arms and text.lower() in ("none", ""):
            return None
        kind = next(arm for arm in arms if arm is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise unknown(f"value of {where}:", text, map(str, choices), "one of these")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{where} must be true or false, not {text!r}")
        return text.lower() == "true"
    try:
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except (TypeError, ValueError):
        article = "an" if kind is int else "a"
        raise UsageError(f"{where} must be {article} {kind.__name__}, not {text!r}") from None
