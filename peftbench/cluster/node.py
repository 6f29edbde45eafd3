"""What Ray starts on a node: a job, done there by a worker as on any machine. What it says and what it leaves comes back as a stream.

The log is sent as it grows, so that it is there when a node is lost. A job that is to be ended ends with the process that this is
in: its worker ends when nobody speaks to it.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray

from ..engine.answers import LOG
from ..engine.jobs import job_from_json
from ..engine.local import LocalEngine
from ..errors import PeftbenchError
from ..folders import drawn_folder
from .travel import CHUNK_BYTES, WORDS, File, chunk, fetched, listing, renamed

LOG_PERIOD_S = 1.0
PREFIX = "peftbench-node-"

# The engine of this process, which Ray keeps for later tasks, and the GPUs that it was started with.
_engine: tuple[str | None, LocalEngine] | None = None


class Source:
    """The files of the machine that asks, for nodes that do not see them."""

    def listing(self, path: str) -> list[File]:
        return listing(path)

    def chunk(self, path: str, name: str, start_bytes: int) -> bytes:
        return chunk(path, name, start_bytes)


def on_node(
    message: Mapping[str, Any], paths: Mapping[str, str], source: Any
) -> Iterator[list[dict[str, Any]]]:
    """Do a job.

    Args:
        message: the job as JSON.
        paths: what of its words are paths, and where they lead on the machine that asks.
        source: the actor that gives the files there.

    Yields:
        What is new, in order: `{"host": ..., "names": ...}` first, the name of this node and the words that stand for `paths` here; events; and
        `{"file": name, "data": bytes}`, to be added to the file of that name. The event `exit` is the last.
    """
    names = {place: _here(leads, source) for place, leads in paths.items()}
    yield [{"host": platform.node(), "names": names}]
    engine, out = _kept_engine(), _folder()
    try:
        engine.start(job_from_json(renamed(message, names, WORDS)), out)
        sent_bytes, ended = 0, None
        while ended is None:
            news: list[dict[str, Any]] = []
            for event in engine.events(LOG_PERIOD_S):
                if "exit" in event:
                    ended = event
                else:
                    news.append(dict(event))
            if added := _read(out / LOG, sent_bytes):
                sent_bytes += len(added)
                news.append({"file": LOG, "data": added})
            if news:
                yield news
        for file in sorted(file for file in out.rglob("*") if file.is_file()):
            name = str(file.relative_to(out))
            start = sent_bytes if name == LOG else 0
            while data := chunk(str(out), name, start):
                start += len(data)
                yield [{"file": name, "data": data}]
            if start == 0:
                yield [{"file": name, "data": b""}]
        yield [dict(ended)]
    except PeftbenchError:  # its worker is gone, and the next job here needs another one
        _drop_engine()
        raise
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _here(leads: str, source: Any) -> str:
    """Where a path's files are on this node."""

    def fetch(path: str, name: str) -> Iterator[bytes]:
        start = 0
        while data := ray.get(source.chunk.remote(path, name, start)):
            start += len(data)
            yield data

    return fetched(leads, ray.get(source.listing.remote(leads)), fetch)


def _kept_engine() -> LocalEngine:
    """The engine that this process has already, if it is of the same GPUs; a worker's start takes seconds."""
    global _engine
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if _engine is not None and _engine[0] != gpus:
        _drop_engine()
    if _engine is None:
        os.environ.pop(
            "OMP_NUM_THREADS", None
        )  # Ray's guess, which would be that of what is measured alone, too
        os.chdir(_folder())  # in which nothing is: no path is seen from here
        _engine = (gpus, LocalEngine())
    return _engine[1]


def _drop_engine() -> None:
    global _engine
    if _engine is not None:
        _engine[1].close()
    _engine = None


def _folder() -> Path:
    """A folder for a job's files; those that killed processes left are taken away."""
    home = Path(tempfile.gettempdir())
    for left in home.glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return drawn_folder(home, f"{PREFIX}{os.getpid()}-")


def _read(file: Path, start_bytes: int) -> bytes:
    try:
        with file.open("rb") as source:
            source.seek(start_bytes)
            return source.read(CHUNK_BYTES)
    except OSError:  # nothing was said yet
        return b""
