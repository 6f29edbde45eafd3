"""Files that travel with a job to a machine that does not see them: plugins, data of one's own, folders of models.

A job's words name them by paths. Where the job is done, a path that leads to the same files there stays; else the files are fetched once, and
the words name the copy. The answer names the paths that were asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.cache import cache_folder, make_once
from ..errors import UsageError
from ..folders import expanded

CHUNK_BYTES = 8 * 2**20
WORDS = ("model", "models", "method", "methods", "task", "tasks", "forgetting", "retain", "baseline", "plugins", "data_dir", "places")  # fmt: skip


@dataclass(frozen=True)
class File:
    """One of a path's files."""

    name: str  # inside the path; empty where the path is the file
    size_bytes: int
    changed_ns: int  # when, by its file system's clock


def listing(path: str) -> list[File]:
    """The files that a path leads to; none where there is nothing."""
    root = Path(path)
    if root.is_file():
        return [_file(root, "")]
    found = (file for file in sorted(root.rglob("*")) if "__pycache__" not in file.parts and file.is_file())
    return [_file(file, str(file.relative_to(root))) for file in found]


def chunk(path: str, name: str, start_bytes: int) -> bytes:
    """A piece of one of a path's files, empty at its end."""
    with (Path(path) / name).open("rb") as source:
        source.seek(start_bytes)
        return source.read(CHUNK_BYTES)


def paths_of(job: Mapping[str, Any]) -> dict[str, str]:
    """What of a job's words are paths, and where each leads from the current folder.

    Args:
        job: as `Job.to_json` wrote it. A run says itself what of it are paths; of other jobs it is a model's name, a plugin, the folder of data,
            and a value of a setting with a separator or an ending, if there is something of that name.
    """
    words = job.get("run") or job.get("asked") or job
    whole = [*(words.get("plugins") or ()), *filter(None, [words.get("data_dir")])]
    if "places" in words:
        whole += words["places"]
    else:
        texts = [
            text
            for name in ("methods", "tasks", "baseline", "forgetting", "retain")
            for text in _texts(words.get(name))
        ]
        values = [value for text in texts for value in re.findall(r"=([^:,=]+)", text)]
        whole += [one for one in (*_texts(words.get("models")), *values) if os.sep in one or Path(one).suffix]
    found: dict[str, str] = {}
    for place in whole:
        with contextlib.suppress(UsageError):  # it names nothing; where the job is done it is said
            found[place] = str(expanded(place, "path").absolute())
    return {place: leads for place, leads in found.items() if os.path.exists(leads)}


def renamed(content: Any, names: Mapping[str, str], only: tuple[str, ...] | None = None) -> Any:
    """JSON with other words in the place of some, each replaced once.

    Args:
        only: the names of the fields that are looked at; None: all.
    """
    if not names:
        return content
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))

    def walk(value: Any, looked_at: bool) -> Any:
        if isinstance(value, dict):
            return {name: walk(one, looked_at or name in (only or ())) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [walk(one, looked_at) for one in value]
        if isinstance(value, str) and looked_at:
            return pattern.sub(lambda found: names[found[0]], value)
        return value

    return walk(content, only is None)


def fetched(leads: str, files: list[File], fetch: Callable[[str, str], Iterator[bytes]]) -> str:
    """Where the files of a path are on this machine: there, if the same ones are; else in the cache, fetched if they are new.

    Args:
        leads: the path where they come from.
        fetch: gives the content of one of its files.
    """
    if listing(leads) == files:
        return leads
    digest = hashlib.sha256(repr((leads, files)).encode()).hexdigest()[:16]
    home, name = cache_folder() / "travelled" / digest, Path(leads).name

    def make(aside: Path) -> None:
        for file in files:
            target = aside / name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                for piece in fetch(leads, file.name):
                    sink.write(piece)

    make_once(home, make)
    return str(home / name)


def _file(path: Path, name: str) -> File:
    found = path.stat()
    return File(name, found.st_size, found.st_mtime_ns)


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
