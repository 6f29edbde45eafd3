"""A small hub on loopback: it speaks what the real clients ask, of repositories that a test puts there.

Its address is in the environment before the clients are imported (`tests/conftest.py`); without the fixture `hub` nothing asks
it. It counts requests, moves branches, refuses, limits, fails and falls silent.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Kept:
    """A repository: its commits, what its names stand for, and how it answers."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False


class SmallHub:
    """What the server serves, and how it behaves."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.repositories: dict[str, Kept] = {}
        self.asked: list[str] = []  # "GET /api/models/org/name"
        self.token = "hf_small"
        self.status: int | None = None  # of every answer
        self.headers: dict[str, str] = {}  # beside it
        self.silent_s = 0.0  # before every answer
        self.resets = False  # every connection

    def push(self, name: str, files: dict[str, bytes] | Path, ref: str = "main") -> str:
        """Put a commit there and let a branch or tag stand for it; data sets are called `datasets/org/name`.

        Args:
            files: their content by their path, or a folder.
        """
        if isinstance(files, Path):
            files = {
                str(file.relative_to(files)): file.read_bytes() for file in files.rglob("*") if file.is_file()
            }
        kept = self.repositories.setdefault(name, Kept())
        commit = hashlib.sha1(f"commit {next(_numbers)}".encode()).hexdigest()
        kept.commits[commit] = files
        kept.refs[ref] = commit
        return commit


_numbers = itertools.count()  # no commit comes twice
HUB = SmallHub()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        HUB.asked.append(f"{self.command} {unquote(self.path)}")
        if HUB.resets:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if HUB.silent_s:
            threading.Event().wait(HUB.silent_s)
        if HUB.status is not None:
            self._send(HUB.status, b"{}", HUB.headers)
            return
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/"):
            kind, _, rest = path[4:].partition("/")
            self._api(f"datasets/{rest}" if kind == "datasets" else rest, body)
        elif path.startswith("lfs/"):
            self._file(bytes.fromhex(path[4:]))
        elif "/resolve/" in path:
            self._resolve(path)
        else:
            self._send(404, b"{}", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refused(self, kept: Kept | None, files: bool) -> bool:
        allowed = self.headers.get("Authorization") == f"Bearer {HUB.token}"
        if kept is None or (kept.private and not allowed):
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return True
        if files and kept.gated and not allowed:
            status = 403 if self.headers.get("Authorization") else 401
            self._send(status, b"{}", {"X-Error-Code": "GatedRepo"})
            return True
        return False

    def _find(self, path: str) -> tuple[str, str]:
        """The repository that a path begins with, and what follows."""
        names = [name for name in HUB.repositories if path == name or path.startswith(f"{name}/")]
        name = max(names, key=len, default="")
        return name, path[len(name) + 1 :]

    def _commit(self, kept: Kept, revision: str) -> str | None:
        commit = kept.refs.get(revision, revision)
        if commit not in kept.commits:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit

    def _api(self, path: str, body: bytes) -> None:
        name, rest = self._find(path)
        kept = HUB.repositories.get(name)
        if self._refused(kept, files=False):
            return
        assert kept is not None
        what, _, rest = rest.partition("/")
        known = [ref for ref in kept.refs if rest == ref or rest.startswith(f"{ref}/")]
        revision = max(known, key=len, default=rest.partition("/")[0]) if what else "main"
        below = rest[len(revision) + 1 :]
        if what == "auth-check":
            if not self._refused(kept, files=True):
                self._json({})
            return
        commit = self._commit(kept, revision)
        if commit is None:
            return
        files = kept.commits[commit]
        if what in ("", "revision"):
            siblings = [{"rfilename": k, "size": len(v), "blobId": _oid(v)} for k, v in files.items()]
            bare = name.removeprefix("datasets/")
            self._json(
                {"id": bare, "modelId": bare, "sha": commit, "siblings": siblings, "private": kept.private}
            )
        elif what == "tree":
            entries = _tree(files, below, "recursive=true" in self.path.lower())
            if below and not entries:
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                return
            self._json(entries)
        elif what == "paths-info":
            text = body.decode()
            paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            folders = {str(parent) for k in files for parent in Path(k).parents if str(parent) != "."}
            found = [_entry(k, files[k]) for k in paths if k in files]
            found += [{"type": "directory", "path": k, "oid": "0"} for k in paths if k in folders]
            self._json(found)
        else:
            self._send(404, b"{}", {})

    def _resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        kept = HUB.repositories.get(name)
        if self._refused(kept, files=True):
            return
        assert kept is not None
        known = [ref for ref in (*kept.refs, *kept.commits) if rest.startswith(f"{ref}/")]
        revision = max(known, key=len, default=rest.partition("/")[0])
        commit, file = self._commit(kept, revision), rest[len(revision) + 1 :]
        if commit is None:
            return
        about = {"X-Repo-Commit": commit}
        content = kept.commits[commit].get(file)
        if content is None:
            self._send(404, b"", {**about, "X-Error-Code": "EntryNotFound"})
        elif file.endswith((".safetensors", ".parquet")):  # large files lie elsewhere
            sha = hashlib.sha256(content).hexdigest()
            LARGE[sha] = content
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha}"'}
            self._send(
                302,
                b"",
                {**about, **linked, "Location": f"{ENDPOINT.replace('127.0.0.1', 'localhost')}/lfs/{sha}"},
            )
        else:
            self._send(200, content, {**about, "ETag": f'"{_oid(content)}"'})

    def _file(self, sha: bytes) -> None:
        content, asked = LARGE[sha.hex()], self.headers.get("Range")
        if not asked:
            self._send(200, content, {"ETag": f'"{sha.hex()}"'})
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
        of = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self._send(206, content[start : end + 1], of)


LARGE: dict[str, bytes] = {}


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree(files: dict[str, bytes], below: str, deep: bool) -> list[dict[str, Any]]:
    """The files and folders below a folder, or directly in it."""
    start = f"{below}/" if below else ""
    inside = {k: v for k, v in files.items() if k.startswith(start)}
    folders = {str(parent) for k in inside for parent in Path(k).parents if str(parent).startswith(start)}
    found = [_entry(k, v) for k, v in inside.items()]
    found += [{"type": "directory", "path": k, "oid": "0"} for k in folders - {".", below}]
    return [entry for entry in found if deep or "/" not in entry["path"][len(start) :]]


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone: that is what some tests are about."""


SERVER = _Server(("127.0.0.1", 0), _Handler)  # it answers once `start` was called
atexit.register(SERVER.server_close)
ENDPOINT = f"http://127.0.0.1:{SERVER.server_address[1]}"
_started = threading.Lock()


def start() -> SmallHub:
    """The hub, answering from now on, with nothing in it."""
    if _started.acquire(blocking=False):
        threading.Thread(target=SERVER.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    HUB.reset()
    return HUB
