"""Published data sets: from the user's folder of data (`--data-dir`), else from the hub.

In the folder a data set is a sub-folder with a file a split, `glue/sst2/train.jsonl.gz` for one: `.jsonl`, `.parquet` or
`.csv`, also packed. Columns are the hub's. Nothing is downloaded where the folder has the files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from .errors import UsageError
from .hub import in_reach
from .rows import KINDS, Column, checked, endings, read

VARIABLE = "PEFTBENCH_DATA_DIR"


def use(folder: str | None) -> None:
    """Look for data sets in this folder from now on, in this process and those that it starts."""
    if folder is not None:
        os.environ[VARIABLE] = folder


@dataclass(frozen=True)
class Published:
    """A data set, by the sub-folder of `--data-dir` and by its hub id."""

    folder: str  # glue/sst2
    hub: str  # nyu-mll/glue
    config: str | None = None  # sst2

    def files(self, splits: Sequence[str]) -> dict[str, Path]:
        """The file of each split in the user's folder; empty where there is no such folder.

        Raises:
            UsageError: the folder is there and lacks a split.
        """
        named = os.environ.get(VARIABLE)
        home = None if named is None else Path(named).expanduser() / self.folder
        if home is None or not home.is_dir():
            return {}
        found = {}
        for split in splits:
            names = [f"{split}{end}" for kind in KINDS for end in endings(kind)]
            here = [home / name for name in names if (home / name).is_file()]
            if not here:
                there = ", ".join(sorted(file.name for file in home.iterdir())) or "nothing"
                raise UsageError(
                    f"--data-dir: {str(home)!r} has no {split} split ({split}.jsonl, .parquet or .csv, also .gz); it has {there}"
                )
            found[split] = here[0]
        return found

    def read(self, splits: Sequence[str], columns: Mapping[str, Column]) -> dict[str, pa.Table]:
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
        digest = hashlib.sha256()
        files = self.files(splits)
        for split in splits:
            digest.update(split.encode() + b"\0")
            if files:
                with files[split].open("rb") as source:
                    digest.update(hashlib.file_digest(source, "sha256").digest())
            else:
                for part in _bytes(self._from_hub(split)):
                    digest.update(part)
        return digest.hexdigest()

    def _from_hub(self, split: str) -> pa.Table:
        import datasets

        name = self.hub if self.config is None else f"{self.hub} ({self.config})"
        if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE") or not in_reach():
            datasets.config.HF_HUB_OFFLINE = True  # what was downloaded before still serves
        try:
            rows: Any = datasets.load_dataset(self.hub, self.config, split=split)
        except Exception as error:
            said = " ".join(str(error).split())[:120]
            raise UsageError(
                f"the data of {name} is not here: give --data-dir DIR with {self.folder}/{split}.jsonl (or .parquet, .csv, "
                f"also .gz), or connect to the hub once ({type(error).__name__}: {said})"
            ) from error
        return rows.data.table


def _kind_of(file: Path) -> str:
    return next(kind for kind in KINDS if file.name.endswith(endings(kind)))


def _bytes(table: pa.Table) -> Iterator[bytes]:
    """The values of a table, row group by row group, as bytes that do not depend on how it is cut."""
    for column in table.column_names:
        yield column.encode()
        for value in table[column]:
            yield repr(value.as_py()).encode()
