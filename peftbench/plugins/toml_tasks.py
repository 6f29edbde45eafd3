"""Tasks in a few lines of TOML: another task's fields with other defaults, under a name of their own.

name = "support-topics"
kind = "csv"                 # the task that it is made of: csv, jsonl, parquet, hub, or any other
description = "What a support message is about."
path = "messages.csv"        # from here on that task's fields; a file is looked for beside this one
text = "message"
label = "topic"
max_length = 96              # tokens; optional
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tomllib
import typing
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UsageError, unknown
from ..spec import Spec, build
from .registry import Entry, enter, get

OWN = ("name", "kind", "description", "max_length")


def declare(file: Path) -> None:
    """Register the task of a TOML file.

    Raises:
        UsageError: it is no TOML, lacks a name or a kind, or sets a field that the kind does not have.
    """
    where = f"task file {str(file)!r}"
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise UsageError(f"{where} is no TOML: {error}") from error
    for key in ("name", "kind"):
        if not isinstance(said.get(key), str):
            raise UsageError(f'{where} has no {key}; write {key} = "..."')
    if not re.fullmatch(r"[a-z][a-z0-9-]*", said["name"]):
        raise UsageError(
            f"{where}: the name {said['name']!r} must be of lower-case letters, digits and dashes"
        )
    length = said.get("max_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise UsageError(f"{where}: max_length must be a whole number above 0, not {length!r}")
    kind = get("task", said["kind"])
    fields = {field.name: field for field in dataclasses.fields(kind.target)}
    for key in said:
        if key not in fields and key not in OWN:
            raise unknown(f"key of {where}:", key, {**fields, **dict.fromkeys(OWN)}, "see the kind's fields")
    texts = {
        key: _text(value, file, bool(fields[key].metadata.get("file")))
        for key, value in said.items()
        if key not in OWN
    }
    instance = build(Spec(kind.name, tuple(texts.items())), kind.target, "task")
    hints = typing.get_type_hints(kind.target)
    description = str(said.get("description") or f"{kind.summary} ({file.name})")
    namespace: dict[str, Any] = {"__doc__": description, "__annotations__": {}}
    if length is not None:
        namespace |= {"max_length": length, "__annotations__": {"max_length": ClassVar[int]}}
    made = dataclasses.make_dataclass(
        said["name"].title().replace("-", ""),
        [(name, hints[name], getattr(instance, name)) for name in fields],
        bases=(kind.target,),
        frozen=True,
        namespace=namespace,
    )
    version = f"{kind.declared} {hashlib.sha256(kind.source_sha256().encode()).hexdigest()[:16]}"
    enter(Entry(said["name"], "task", made, version, file))


def _text(value: Any, file: Path, names_a_file: bool) -> str:
    """A value as a SPEC has it; of a file beside this one its whole path."""
    if isinstance(value, bool):
        return str(value).lower()
    if names_a_file and (beside := file.parent / str(value)).exists():
        return str(beside)
    return str(value)
