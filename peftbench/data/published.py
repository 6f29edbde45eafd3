"""Published data sets: from the user's folder of data (`--data-dir`), else from the hub.

In the folder a data set is a sub-folder with a file a split, `glue/sst2/train.jsonl.gz` for one: `.jsonl`, `.parquet` or
`.csv`, also packed. Columns are the hub's. Nothing is downloaded where the folder has the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import UsageError
from ..folders import expanded
from .digests import sha256_of
from .files import FILE_KINDS, NeededColumn, checked, endings, json_objects, opened, read
from .hub import Repository
from .hub_data import HubData

VARIABLE = "PEFTBENCH_DATA_DIR"
OTHER_NAMES = (("validation", "dev"), ("validation", "valid"))  # what a split's file may be called


_folder: ContextVar[str | None] = ContextVar("peftbench_data_folder", default=None)


@contextmanager
def looked_for_in(folder: str | None) -> Iterator[None]:
    """For the block, data sets are looked for in this folder; None: where the environment says."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@dataclass(frozen=True)
class Published:
    """A data set, by the sub-folder of `--data-dir` and by its hub id."""

    folder: str  # glue/sst2
    hub: str | None = None  # nyu-mll/glue; None: it is in no layout that can be loaded from there
    config: str | None = None  # sst2
    layout: str = ".json"  # the endings of its published files, for what is said where they are not here

    def files(self, splits: Sequence[str]) -> dict[str, Path]:
        """The file of each split in the user's folder; empty where there is no such folder.

        Raises:
            UsageError: the folder is there and lacks a split.
        """
        home = self._home
        if home is None:
            return {}
        found = {}
        for split in splits:
            here = _files_of(home, split)
            if not here:
                there = ", ".join(sorted(file.name for file in home.iterdir())) or "nothing"
                raise UsageError(
                    f"--data-dir: {str(home)!r} has no {split} split ({split}.jsonl, .parquet or .csv, also .gz); it has {there}"
                )
            if len(here) > 1:
                raise UsageError(
                    f"--data-dir: {str(home)!r} has several files of its {split} split, {', '.join(file.name for file in here)}; "
                    "leave one"
                )
            found[split] = here[0]
        return found

    def read(self, splits: Sequence[str], columns: Mapping[str, NeededColumn]) -> dict[str, pa.Table]:
        """The wanted columns of each split, under the task's names for them.

        Raises:
            UsageError: neither the folder nor the hub has it, or a column or a value is not what it should be.
        """
        files = self.files(splits)
        if not files:
            loaded = {split: self._from_hub(split) for split in splits}
            return {
                split: pa.Table.from_batches(
                    checked(rows.to_batches(), f"{self.hub}, {split}: the table", columns)
                )
                for split, rows in loaded.items()
            }
        found = {split: list(read(file, _kind_of(file), columns)) for split, file in files.items()}
        if empty := [split for split, batches in found.items() if not sum(b.num_rows for b in batches)]:
            raise UsageError(f"data file {str(files[empty[0]])!r} has no rows")
        return {split: pa.Table.from_batches(batches) for split, batches in found.items()}

    def fingerprint(self, splits: Sequence[str]) -> str:
        """Of the content of the files, or of the hub's tables."""
        files = self.files(splits)
        if not files and self.hub is None:
            raise UsageError(self._lacking(splits))
        if not files:
            with self._saying_what_to_do(splits):
                return self._source.remembered(
                    f"published {','.join(splits)}", lambda: self._of_tables(splits)
                )
        digest = hashlib.sha256()
        for split in splits:
            digest.update(split.encode() + b"\0" + sha256_of(files[split]))
        return digest.hexdigest()

    def _of_tables(self, splits: Sequence[str]) -> str:
        digest = hashlib.sha256()
        for split in splits:
            digest.update(split.encode() + b"\0")
            for part in _bytes(self._source.splits()[split].data.table):
                digest.update(part)
        return digest.hexdigest()

    def documents(self, splits: Sequence[str]) -> dict[str, Any]:
        """The JSON document of each split.

        Raises:
            UsageError: the folder has none of them, or one does not read.
        """
        found, files = {}, self.files(splits)
        if not files:
            raise UsageError(self._lacking(splits))
        for split, file in files.items():
            try:
                with opened(file) as source:
                    found[split] = json.load(source)
            except (ValueError, OSError, EOFError) as error:
                raise UsageError(f"data file {str(file)!r} can't be read as JSON: {error}") from error
        return found

    def objects(self, file: Path) -> Iterator[dict[str, Any]]:
        """The JSON objects of a file, one a line, nested ones too.

        Raises:
            UsageError: it does not read, or a line is no JSON object.
        """
        try:
            yield from json_objects(file)
        except (OSError, EOFError, UnicodeError) as error:
            raise UsageError(f"data file {str(file)!r} can't be read as lines of JSON: {error}") from error

    def lines(self, splits: Sequence[str]) -> dict[str, Path]:
        """The file of lines of JSON of each split.

        Raises:
            UsageError: the folder has none.
        """
        files = self.files(splits)
        if not files:
            raise UsageError(self._lacking(splits))
        return files

    def beside(self, name: str) -> Path | None:
        """Another file of that name in the user's folder."""
        home = self._home
        return None if home is None else next(iter(_files_of(home, name)), None)

    @property
    def _home(self) -> Path | None:
        named = _folder.get() or os.environ.get(VARIABLE)
        home = None if named is None else expanded(named, VARIABLE) / self.folder
        return home if home is not None and home.is_dir() else None

    def _lacking(self, splits: Sequence[str]) -> str:
        files = ", ".join(f"{self.folder}/{split}{self.layout}" for split in splits)
        return (
            f"the data of {self.folder} is not here: give --data-dir DIR with {files} as published (also .gz)"
        )

    @property
    def _source(self) -> HubData:
        return HubData(Repository(str(self.hub), kind="dataset"), self.config)

    def _from_hub(self, split: str) -> pa.Table:
        if self.hub is None:
            raise UsageError(self._lacking([split]))
        with self._saying_what_to_do([split]):
            return self._source.splits()[split].data.table

    @contextmanager
    def _saying_what_to_do(self, splits: Sequence[str]) -> Iterator[None]:
        """For the block, what the hub does not give may come from a folder, and is said so."""
        try:
            yield
        except (UsageError, KeyError) as error:
            name = self.hub if self.config is None else f"{self.hub} ({self.config})"
            said = f"it has no split {error}" if isinstance(error, KeyError) else str(error)
            wanted = " and ".join(f"{self.folder}/{split}.jsonl" for split in splits)
            raise UsageError(
                f"the data of {name} is not here: give --data-dir DIR with {wanted} (or .parquet, .csv, "
                f"also .gz), or connect to the hub once ({said})"
            ) from error


def _files_of(home: Path, name: str) -> list[Path]:
    """The files of a split, whatever they are packed with."""
    names = (
        f"{one}{end}"
        for one in (name, *(name.replace(split, other) for split, other in OTHER_NAMES if split in name))
        for kind in FILE_KINDS
        for end in endings(kind)
    )
    return [home / one for one in names if (home / one).is_file()]


def _kind_of(file: Path) -> str:
    return next(kind for kind in FILE_KINDS if file.name.endswith(endings(kind)))


def _bytes(table: pa.Table) -> Iterator[bytes]:
    """The values of a table, row group by row group, as bytes that do not depend on how it is cut."""
    for column in table.column_names:
        yield column.encode()
        for value in table[column]:
            yield repr(value.as_py()).encode()
