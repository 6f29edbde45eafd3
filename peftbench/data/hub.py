"""Repositories of the Hugging Face hub: which commit a name stands for, and its files at that commit.

A bare name stands for the commit that is here; where none is, and with a branch or a tag, the hub is asked. Inside `pinned` a
name keeps its commit, so that a run reads what its plan read, wherever the name points by then.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils._validators import validate_repo_id

from ..errors import UsageError
from . import hub_client
from .cache import cache_folder, replace_text
from .download import NAMED_FILES, shown

COMMIT = re.compile(r"[0-9a-f]{40}")
ADDRESS = re.compile(r"https?:|hf:|huggingface\.co/")

_pins: ContextVar[tuple[dict[str, str], ...]] = ContextVar("peftbench_hub_commits", default=())


@contextmanager
def pinned(commits: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """For the block, each name stands for one commit: that of `commits`, of a block outside, or the first that it is found to be.

    Yields:
        What was looked up in the block, a name as `Repository.text` and its commit.
    """
    noted: dict[str, str] = dict(commits or {})
    token = _pins.set((*_pins.get(), noted))
    try:
        yield noted
    finally:
        _pins.reset(token)


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, at a branch, tag or commit, or at whatever of it is here."""

    name: str  # org/name
    revision: str | None = None
    kind: str = "model"  # or "dataset", or "adapter", which to the hub is a model too

    @classmethod
    def from_text(cls, text: str, kind: str = "model") -> Repository:
        """`org/name` or `org/name@revision`.

        Raises:
            UsageError: it is no name that the hub could have.
        """
        if ADDRESS.match(text):
            raise UsageError(f"{text!r} is an address; write the name alone, OWNER/NAME")
        name, _, revision = text.partition("@")
        try:
            validate_repo_id(name)
        except ValueError as error:
            raise UsageError(
                f"{text!r} is not a name on the hub, which has the form OWNER/NAME ({error})"
            ) from error
        if not revision and text.endswith("@"):
            raise UsageError(f"{text!r} names no revision after its @; write a branch, a tag or a commit")
        return cls(name, revision or None, kind)

    @property
    def text(self) -> str:
        """As a user writes it; of a data set with its kind before it."""
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{'datasets/' if self.kind == 'dataset' else ''}{self.name}{at}"

    @property
    def said(self) -> str:
        """For messages."""
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{'data set' if self.kind == 'dataset' else self.kind} {self.name + at!r}"

    @property
    def type(self) -> str:
        """What the hub calls its kind."""
        return "dataset" if self.kind == "dataset" else "model"

    @property
    def home(self) -> Path:
        """Where the hub's client keeps it."""
        return Path(constants.HF_HUB_CACHE) / f"{self.type}s--{self.name.replace('/', '--')}"

    def commit(self) -> str:
        """The commit that it stands for.

        Raises:
            UsageError: it is not here and the hub does not serve it.
        """
        found = self._pinned or self._commit()
        self.note(found)
        return found

    def note(self, commit: str) -> None:
        """Keep in mind what it stands for, inside `pinned`."""
        for pins in _pins.get():
            pins.setdefault(self.text, commit)

    @property
    def is_known(self) -> bool:
        """Whether something here says which commit it stands for."""
        return bool(self._pinned or COMMIT.fullmatch(self.revision or "") or self._ref.is_file())

    @property
    def _pinned(self) -> str | None:
        return next((pins[self.text] for pins in _pins.get() if self.text in pins), None)

    @property
    def _ref(self) -> Path:
        """Where the hub's client writes which commit a branch or tag stood for."""
        return self.home / "refs" / (self.revision or "main")

    def _commit(self) -> str:
        if self.revision is not None and COMMIT.fullmatch(self.revision):
            return self.revision
        here = self._ref
        remembered = here.read_text(encoding="utf-8").strip() if here.is_file() else None
        if remembered and (self.revision is None or not hub_client.may_ask()):
            return remembered
        self.check_reach("is not here")
        with hub_client.asking(self.said):
            asked = huggingface_hub.HfApi().repo_info(
                self.name, repo_type=self.type, revision=self.revision, timeout=hub_client.SILENCE_S
            )
        commit = str(asked.sha)
        try:
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_text(commit, encoding="utf-8")
        except OSError:
            pass  # a cache that can't be written is said when files come
        return commit

    def sizes(self) -> dict[str, int] | None:
        """Every file at the commit and its bytes; None where that was never asked and can't be."""
        commit = self.commit()
        home = cache_folder() / "from-hub" / f"{self.type}s--{self.name.replace('/', '--')}-{commit}.json"
        try:
            known: dict[str, int] = json.loads(home.read_text(encoding="utf-8"))
            return known
        except (OSError, ValueError):
            pass
        if (found := _listing_of_the_client(self.name, self.type, commit)) is None:
            if not hub_client.may_ask():
                return None
            with hub_client.asking(self.said):
                asked: Any = huggingface_hub.HfApi().repo_info(
                    self.name,
                    repo_type=self.type,
                    revision=commit,
                    timeout=hub_client.SILENCE_S,
                    files_metadata=True,
                )
            found = {file.rfilename: file.size or 0 for file in asked.siblings or ()}
        replace_text(home, json.dumps(found))
        return found

    def check_reach(self, lacking: str) -> None:
        """Whether the hub can be asked.

        Raises:
            UsageError: it can't, and `lacking` says what of it is missing here.
        """
        if hub_client.is_offline():
            raise UsageError(
                f"{self.said} {lacking}, and the hub may not be asked (HF_HUB_OFFLINE is set): unset it once, or give a folder"
            )
        if not hub_client.in_reach():
            raise UsageError(
                f"{self.said} {lacking}, and the hub ({constants.ENDPOINT}) is out of reach: connect once, or give a folder"
            )


def _listing_of_the_client(name: str, kind: str, commit: str) -> dict[str, int] | None:
    """What another program asked for already, with a client that keeps it."""
    known = getattr(huggingface_hub, "get_cached_repo_tree", None)
    if known is None:
        return None
    try:
        return {entry.path: entry.size for entry in known(name, repo_type=kind, revision=commit)}
    except (OSError, errors.CachedRepoTreeNotFoundError):
        return None


def snapshot(repository: Repository, wanted: Callable[[str], bool]) -> tuple[Path, bool]:
    """The folder of a repository's files at its commit, completed where some are missing.

    Args:
        wanted: of a file's path in the repository, whether it belongs to it.

    Returns:
        The folder, and whether it is known to hold all that is wanted: without the hub that can't be told of what another
        program downloaded.

    Raises:
        UsageError: files are missing and the hub does not serve them.
    """
    folder = repository.home / "snapshots" / repository.commit()
    sizes = repository.sizes()
    if sizes is None:
        if not folder.is_dir():
            repository.check_reach(f"at {folder.name[:12]} is not here")
        return folder, False
    need = {name: size for name, size in sizes.items() if wanted(name)}
    lacking = {name: size for name, size in need.items() if not (folder / name).is_file()}
    cut = {name: n for name, n in need.items() if name not in lacking and (folder / name).stat().st_size != n}
    if lacking or cut:
        some = ", ".join([*lacking, *cut][:NAMED_FILES])
        repository.check_reach(f"at {folder.name[:12]} is here without {some}")
        with (
            hub_client.asking(repository.said),
            shown(repository.said, {**lacking, **cut}, repository.home / "blobs"),
        ):
            for names, again in ((lacking, False), (cut, True)):
                if names:
                    huggingface_hub.snapshot_download(
                        repository.name,
                        repo_type=repository.type,
                        revision=folder.name,
                        allow_patterns=[glob.escape(name) for name in names],
                        force_download=again,
                    )
    return folder, True
