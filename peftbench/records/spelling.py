"""Words that are paths: runs of the same files, seen from other folders or on other machines, are named in one way.

Where files lie is in no key. A table goes by words, though, and so do the figures of a process that took several methods in turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from .. import spec
from .joint import parts
from .record import Record
from .runs import Run, merged_name

BY_METHOD = ("latency", "generation", "serving", "meters")  # sections in which words of methods stand


def named_as(record: Record, run: Run) -> Record:
    """The record in the words of another run of its key, wherever they stand."""
    named = dataclasses.replace(record, run=record.run.named_as(run))
    if record.run.kind != "latency" or record.run.method == run.method:
        return named
    words: dict[str, str] = {}
    for one, other in zip(spec.parse_list(record.run.method), spec.parse_list(run.method), strict=True):
        words |= {str(one): str(other), merged_name(str(one)): merged_name(str(other))}
    sections = {name: _renamed(getattr(record, name), words) for name in BY_METHOD}
    return dataclasses.replace(named, **sections)


def spelled_alike(records: Sequence[Record]) -> list[Record]:
    """The same records, each file in the shortest of the words that they have for it."""
    words: dict[Hashable, tuple[str, Run]] = {}
    for record in records:
        for file, word in _words(record.run) if record.run.places else ():
            found, _ = words.get(file, (word, record.run))
            if file not in words or (len(word), word) < (len(found), found):
                words[file] = word, record.run
    return [
        named_as(record, _spelled(record.run, words)) if record.run.places else record for record in records
    ]


def _words(run: Run) -> Iterator[tuple[tuple[Hashable, ...], str]]:
    """What each of a run's words stands for, as its key knows it, and the word."""
    sources = run.identity.get
    for part in parts(run):
        yield ("method", run.without_folders(part.method), part.identity.get("method")), part.method
    yield ("model", run.without_folders(run.model), sources("model")), run.model
    yield ("task", run.without_folders(run.task), sources("task"), sources("data")), run.task
    if run.forgetting is not None:
        yield ("forgetting", run.without_folders(run.forgetting), sources("forgetting")), run.forgetting
    for words, source in zip(run.retain, run.retained_sources, strict=True):
        yield ("retain", run.without_folders(words), source), words


def _spelled(run: Run, words: dict[Hashable, tuple[str, Run]]) -> Run:
    found: dict[str, list[str]] = {}
    places: dict[str, None] = {}
    for file, _ in _words(run):
        word, of_run = words[file]
        found.setdefault(str(file[0]), []).append(word)
        places |= dict.fromkeys(place for place in of_run.places if place in word)
    retain = tuple(found.pop("retain", ()))
    spelled: dict[str, Any] = {name: ",".join(its) for name, its in found.items()} | {"retain": retain}
    return dataclasses.replace(run, places=tuple(places), **spelled)


def _renamed(value: Any, words: dict[str, str]) -> Any:
    """The same with other words; lists of numbers as they are."""
    if isinstance(value, dict):
        return {words.get(name, name): _renamed(its, words) for name, its in value.items()}
    if isinstance(value, list) and not (value and isinstance(value[0], float)):
        return [_renamed(its, words) for its in value]
    return words.get(value, value) if isinstance(value, str) else value
