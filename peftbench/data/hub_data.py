"""Data sets: those of the Hugging Face hub at a commit, and folders in their layout.

What was loaded once is opened from the files that the `datasets` library made of it, without a request.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub

from ..errors import UsageError
from ..folders import expanded
from . import hub_client
from .cache import cache_folder, replace_text
from .download import shown
from .hub import COMMIT, Repository

CONVERTED = "refs/convert/parquet"  # where the hub keeps its own conversion of what is still a script


@dataclass(frozen=True)
class HubData:
    """A data set of the hub, in one of its configurations."""

    repository: Repository
    config: str | None = None

    def splits(self) -> dict[str, Any]:
        """Its splits, each a `datasets.Dataset`.

        Raises:
            UsageError: it is neither here nor served by the hub, or does not load.
        """
        import datasets

        commit = self._commit()
        if commit is not None and (files := self._files(commit)):
            return _opened(files)
        if commit is None or datasets.config.HF_HUB_OFFLINE or not hub_client.may_ask():
            return self._as_datasets_has_it(commit)
        try:
            with hub_client.asking(self.repository.said), without_bars():
                found = dict(self._downloaded(commit))
        except UsageError:
            raise
        except Exception as error:
            with hub_client.asking(self.repository.said):  # the library forgets why it may not read it
                huggingface_hub.HfApi().auth_check(self.repository.name, repo_type="dataset")
            said = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{self.repository.said} does not load ({type(error).__name__}: {said}); see it on its page"
            ) from error
        self._remember(commit, found)
        return found

    def remembered(self, what: str, make: Callable[[], str]) -> str:
        """A text that depends on the data and on `what` alone; made once for each commit."""
        commit = self._commit()
        if commit is None:
            self.splits()
            commit = self.repository.commit()
        home = self._home(commit, what)
        try:
            return home.read_text(encoding="utf-8")
        except OSError:
            text = make()
            replace_text(home, text)
            return text

    def _commit(self) -> str | None:
        """The commit; None where only the `datasets` library's own cache could know."""
        return self.repository.commit() if self.repository.is_known or hub_client.may_ask() else None

    def _home(self, commit: str, what: str) -> Path:
        key = json.dumps([self.repository.name, self.config, commit, what])
        return cache_folder() / "from-hub" / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _files(self, commit: str) -> dict[str, list[str]]:
        """The files of each split, if all of them are where they were left."""
        try:
            found = json.loads(self._home(commit, "files").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        whole = all(
            Path(file).is_file() and Path(file).stat().st_size == size
            for parts in found.values()
            for file, size in parts
        )
        return {split: [file for file, _ in parts] for split, parts in found.items()} if whole else {}

    def _remember(self, commit: str, splits: dict[str, Any]) -> None:
        files = {split: [part["filename"] for part in rows.cache_files] for split, rows in splits.items()}
        if all(files.values()):
            sized = {split: [(file, Path(file).stat().st_size) for file in f] for split, f in files.items()}
            replace_text(self._home(commit, "files"), json.dumps(sized))

    def _downloaded(self, commit: str) -> Any:
        import datasets

        try:
            builder = self._builder(commit)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            if self.repository.revision is not None:
                raise UsageError(
                    f"{self.repository.said} is a script, and such code is never run; without a revision, the hub's own "
                    "conversion to Parquet is taken"
                ) from error
            builder = self._builder(Repository(self.repository.name, CONVERTED, "dataset").commit())
        sizes = self.repository.sizes() or {}
        given = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
        names = [file.partition("@")[2].partition("/")[2] for file in given]
        files = {name: sizes.get(name, 0) for name in names}
        folder = Path(datasets.config.DOWNLOADED_DATASETS_PATH)
        with shown(f"{self.repository.said} at {commit[:12]}", files, folder):
            builder.download_and_prepare()
        return builder.as_dataset()

    def _builder(self, commit: str) -> Any:
        try:
            builder = builder_of(self.repository.name, self.config, commit)
            if Path(builder.cache_dir).name != commit:  # the library took what another program had loaded
                raise UsageError(
                    f"{self.repository.said} is not served at {commit[:12]} by the hub; try again"
                )
            return builder
        except ValueError as error:
            if known := re.search(r"[Aa]vailable(?: configs)?: (\[.*?\])", str(error)):
                raise self._several(re.findall(r"'([^']*)'", known[1])) from error
            raise

    def _several(self, known: list[str]) -> UsageError:
        listed = ", ".join(known)
        if self.config is None:
            return UsageError(
                f"{self.repository.said} has several configurations, {listed}: name one with :config={known[0]}"
            )
        return UsageError(f"{self.repository.said} has no configuration {self.config!r}; it has {listed}")

    def _as_datasets_has_it(self, commit: str | None) -> dict[str, Any]:
        """From the `datasets` library's cache, that another program filled, without the hub."""
        import datasets
        from datasets.naming import camelcase_to_snakecase

        owner, _, name = self.repository.name.rpartition("/")
        home = Path(datasets.config.HF_DATASETS_CACHE) / f"{owner}___{camelcase_to_snakecase(name)}"
        found = home.glob(f"{'*' if self.config is None else self.config}/*/{commit or '*'}")
        here = sorted(folder for folder in found if folder.is_dir() and not folder.suffix)
        if not here:
            at = "" if commit is None else f" at {commit[:12]}"
            self.repository.check_reach(f"is not here{at}")
        configs = sorted({re.sub(r"-[0-9a-f]{16}$", "", folder.parts[-3]) for folder in here})
        if len(configs) > 1:
            raise self._several(configs)
        commits = sorted({folder.name for folder in here})
        if len(commits) > 1:
            listed = ", ".join(one[:12] for one in commits)
            raise UsageError(
                f"{self.repository.said} is here at several commits, {listed}: name one with :revision="
            )
        parts: dict[str, list[str]] = {}
        for file in sorted(here[0].glob("*.arrow")):
            split = re.sub(r"-\d{5}-of-\d{5}$", "", file.stem).removeprefix(
                f"{camelcase_to_snakecase(name)}-"
            )
            parts.setdefault(split, []).append(str(file))
        splits = _opened(parts)
        if COMMIT.fullmatch(commits[0]):
            self.repository.note(commits[0])
            self._remember(commits[0], splits)
        return splits


def _opened(parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Splits from the Arrow files of each."""
    import datasets

    return {
        split: datasets.concatenate_datasets([datasets.Dataset.from_file(file) for file in files])
        for split, files in parts.items()
    }


def builder_of(path: str, config: str | None, commit: str | None = None) -> Any:
    """The library's builder of a data set. Of CSV it takes values as they are written: it would read 007 as 7 and NA as nothing."""
    import datasets
    import fsspec

    builder = datasets.load_dataset_builder(path, config, revision=commit)
    if type(builder.config).__name__ != "CsvConfig" or builder.info.features is not None:
        return builder
    first = next(iter(builder.config.data_files.values()))[0]
    with fsspec.open(str(first), "rt", encoding="utf-8-sig", newline="", compression="infer") as lines:
        names = next(csv.reader(lines, delimiter=builder.config.sep), [])
    as_written = datasets.Features({name: datasets.Value("string") for name in names})
    return datasets.load_dataset_builder(
        path, config, revision=commit, features=as_written, keep_default_na=False
    )


def folder_splits(path: str, config: str | None) -> dict[str, Any]:
    """The splits of a folder, each a `datasets.Dataset`: one that `save_to_disk` wrote, or one of files.

    Raises:
        UsageError: it does not load.
    """
    import datasets

    folder = expanded(path, "path")
    try:
        with without_bars():
            if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(folder))
            else:
                builder = builder_of(str(folder), config)
                builder.download_and_prepare()
                found = builder.as_dataset()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"data set {path!r} does not load: give a folder that datasets' save_to_disk wrote, one with train.csv, .jsonl or "
            f".parquet, or the id of a data set of the hub ({type(error).__name__}: {said})"
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


@contextmanager
def without_bars() -> Iterator[None]:
    """For the block, `datasets` draws no progress bars; then it is as it was."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()
